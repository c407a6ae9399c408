//! Commands (section 7.2) as values, and the answers that publishers wait for.
use crate::amf0::{self, AmfError, Value};

/// Characters of a name, key or address that a publisher may send.
const TEXT_LEN_MAX: usize = 1024;

/// One command: its name, its transaction and its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) transaction: f64,
    pub(crate) arguments: Vec<Value>,
}

impl Command {
    /// Reads a command. AMF3-framed ones begin with a zero byte and then are AMF0 (section 7.1.1).
    pub(crate) fn parse(body: &[u8], is_amf3: bool) -> Result<Option<Self>, AmfError> {
        let body = match body.split_first() {
            Some((0, rest)) if is_amf3 => rest,
            _ => body,
        };
        let mut values = amf0::read_all(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Ok(None) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        Ok(Some(Self { name, transaction, arguments: values.collect() }))
    }

    /// The text at this place among the arguments, the command object being the first.
    pub(crate) fn text(&self, index: usize) -> Option<String> {
        bounded(self.arguments.get(index)?.as_str()?)
    }

    /// A text of the command object.
    pub(crate) fn property(&self, name: &str) -> Option<String> {
        bounded(self.arguments.first()?.property(name)?.as_str()?)
    }
}

fn bounded(text: &str) -> Option<String> {
    (text.len() <= TEXT_LEN_MAX).then(|| text.to_owned())
}

/// `_result` of a command.
pub(crate) fn result(transaction: f64, values: &[Value]) -> Vec<u8> {
    command("_result", transaction, values)
}

/// The answer to `connect` (section 7.2.1.1). What is beyond AVC and AAC is named to those who ask, as enhanced RTMP v1
/// has it; others get no lists, which the simplest readers stumble over.
pub(crate) fn connected(connect: &Command) -> Vec<u8> {
    let mut properties = vec![
        ("fmsVer".to_owned(), Value::String("FMS/3,5,7,7009".to_owned())),
        ("capabilities".to_owned(), Value::Number(31.0)),
        ("mode".to_owned(), Value::Number(1.0)),
    ];
    if connect.arguments.first().is_some_and(|object| object.property("fourCcList").is_some()) {
        properties.push(("fourCcList".to_owned(), Value::Array(vec![Value::String("Opus".to_owned())])));
    }
    let mut info = info("status", "NetConnection.Connect.Success", "Connection succeeded.");
    if let Value::Object(properties) = &mut info {
        properties.push(("objectEncoding".to_owned(), Value::Number(0.0)));
    }
    result(connect.transaction, &[Value::Object(properties), info])
}

/// `onStatus`, the answer to what concerns a stream (section 7.2.2).
pub(crate) fn on_status(level: &str, code: &str, description: &str) -> Vec<u8> {
    command("onStatus", 0.0, &[Value::Null, info(level, code, description)])
}

/// The information object of answers.
pub(crate) fn info(level: &str, code: &str, description: &str) -> Value {
    Value::Object(vec![
        ("level".to_owned(), Value::String(level.to_owned())),
        ("code".to_owned(), Value::String(code.to_owned())),
        ("description".to_owned(), Value::String(description.to_owned())),
    ])
}

pub(crate) fn command(name: &str, transaction: f64, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    amf0::write(&Value::String(name.to_owned()), &mut body);
    amf0::write(&Value::Number(transaction), &mut body);
    for value in values {
        amf0::write(value, &mut body);
    }
    body
}
