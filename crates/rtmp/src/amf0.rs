//! AMF0 (Adobe, "Action Message Format - AMF 0", 2007): what commands and metadata are written in.
use thiserror::Error;

/// Values within values. Metadata of real encoders has two levels.
const DEPTH_MAX: usize = 8;
/// Values in one message, keys of objects not counted.
const ITEMS_MAX: usize = 512;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// Text; what is not UTF-8 has been replaced.
    String(String),
    /// Properties in their order: of an object, an ECMA array or a typed object.
    Object(Vec<(String, Self)>),
    /// A list.
    Array(Vec<Self>),
    /// A date, in milliseconds since 1970.
    Date(f64),
    /// Nothing: null, undefined, unsupported.
    Null,
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AmfError {
    /// It ends too early.
    #[error("AMF0 value ends too early")]
    Truncated,
    /// A marker that AMF0 does not have, or that no publisher uses.
    #[error("AMF0 marker {0:#04x} is not supported")]
    Marker(u8),
    /// Values are nested too deep.
    #[error("AMF0 values are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Too many values.
    #[error("more than {ITEMS_MAX} AMF0 values in a message")]
    TooMany,
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A property of an object.
    pub fn property(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// Reads every value of a message.
pub fn read_all(input: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { input, items: 0 };
    let mut values = Vec::new();
    while !reader.input.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// Reads the values of a message up to the first that cannot be read: metadata is worth what can be had of it.
pub fn read_some(input: &[u8]) -> Vec<Value> {
    let mut reader = Reader { input, items: 0 };
    let mut values = Vec::new();
    while !reader.input.is_empty() {
        let Ok(value) = reader.value(0) else { break };
        values.push(value);
    }
    values
}

struct Reader<'a> {
    input: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    /// The recursion ends at [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth > DEPTH_MAX {
            return Err(AmfError::TooDeep);
        }
        self.items = self.items.saturating_add(1);
        if self.items > ITEMS_MAX {
            return Err(AmfError::TooMany);
        }
        let [marker] = self.take()?;
        Ok(match marker {
            0x00 => Value::Number(f64::from_be_bytes(self.take()?)),
            0x01 => Value::Boolean(self.take::<1>()? != [0]),
            0x02 => Value::String(self.short_text()?),
            0x03 => Value::Object(self.properties(depth)?),
            0x05 | 0x06 | 0x0d => Value::Null,
            0x08 => {
                // The count is a hint; encoders leave it 0.
                let _: [u8; 4] = self.take()?;
                Value::Object(self.properties(depth)?)
            }
            0x0a => {
                let count = u32::from_be_bytes(self.take()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth.saturating_add(1))?);
                }
                Value::Array(values)
            }
            0x0b => {
                let date = f64::from_be_bytes(self.take()?);
                let _zone: [u8; 2] = self.take()?;
                Value::Date(date)
            }
            // Long strings and XML documents look the same.
            0x0c | 0x0f => {
                let len =
                    usize::try_from(u32::from_be_bytes(self.take()?)).map_err(|_| AmfError::Truncated)?;
                Value::String(self.text(len)?)
            }
            0x10 => {
                self.short_text()?;
                Value::Object(self.properties(depth)?)
            }
            // AVM+: the rest is AMF3. Only a null may follow where we read.
            0x11 if self.take::<1>()? == [0x01] => Value::Null,
            marker => return Err(AmfError::Marker(marker)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut properties = Vec::new();
        loop {
            let key = self.short_text()?;
            if key.is_empty() && self.input.first() == Some(&0x09) {
                let _: [u8; 1] = self.take()?;
                return Ok(properties);
            }
            properties.push((key, self.value(depth.saturating_add(1))?));
            // Some encoders forget the end of the last object of a message.
            if self.input.is_empty() {
                return Ok(properties);
            }
        }
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let len = usize::from(u16::from_be_bytes(self.take()?));
        self.text(len)
    }

    fn text(&mut self, len: usize) -> Result<String, AmfError> {
        let (text, rest) = self.input.split_at_checked(len).ok_or(AmfError::Truncated)?;
        self.input = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (bytes, rest) = self.input.split_first_chunk::<N>().ok_or(AmfError::Truncated)?;
        self.input = rest;
        Ok(*bytes)
    }
}

/// Appends one value. Text longer than 65,535 bytes is cut.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(0x00);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(truth) => out.extend_from_slice(&[0x01, u8::from(*truth)]),
        Value::String(text) => {
            out.push(0x02);
            write_text(text, out);
        }
        Value::Object(properties) => {
            out.push(0x03);
            for (key, value) in properties {
                write_text(key, out);
                write(value, out);
            }
            out.extend_from_slice(&[0, 0, 0x09]);
        }
        Value::Array(values) => {
            out.push(0x0a);
            out.extend_from_slice(&u32::try_from(values.len()).unwrap_or(0).to_be_bytes());
            for value in values {
                write(value, out);
            }
        }
        Value::Date(date) => {
            out.push(0x0b);
            out.extend_from_slice(&date.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
        Value::Null => out.push(0x05),
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let text = text.get(..end).unwrap_or("");
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    /// A value of any kind, from a stream of numbers.
    fn any(next: &mut impl FnMut() -> u32, depth: usize) -> Value {
        let names = ["", "a", "width", "Größe"];
        let name = |number: u32| names[number as usize % names.len()].to_owned();
        match next() % if depth < DEPTH_MAX { 7 } else { 5 } {
            0 => Value::Number(f64::from(next()) / 7.0),
            1 => Value::Boolean(next().is_multiple_of(2)),
            2 => Value::String(name(next())),
            3 => Value::Date(f64::from(next())),
            4 => Value::Null,
            5 => Value::Object((0..next() % 4).map(|_| (name(next()), any(next, depth + 1))).collect()),
            _ => Value::Array((0..next() % 4).map(|_| any(next, depth + 1)).collect()),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_no_part_of_it_panics() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for _ in 0..2000 {
            let values: Vec<Value> = (0..next() % 5).map(|_| any(&mut next, 0)).collect();
            let mut bytes = Vec::new();
            values.iter().for_each(|value| write(value, &mut bytes));
            match read_all(&bytes) {
                Ok(read) => assert_eq!(read, values),
                // Trees branch: some of them are beyond the bound.
                Err(error) => assert_eq!(error, AmfError::TooMany),
            }
            for end in 0..bytes.len() {
                let _ = read_all(&bytes[..end]);
            }
        }
    }

    #[test]
    fn every_marker_that_publishers_use_is_read() {
        for (bytes, expected) in [
            (&[0, 0x40, 0x50, 0, 0, 0, 0, 0, 0][..], Value::Number(64.0)),
            (&[1, 1], Value::Boolean(true)),
            (&[2, 0, 1, b'a'], text("a")),
            (&[3, 0, 1, b'a', 5, 0, 0, 9], Value::Object(vec![("a".to_owned(), Value::Null)])),
            (&[5], Value::Null),
            (&[6], Value::Null),
            // The count of an ECMA array is wrong more often than not.
            (&[8, 0, 0, 0, 99, 0, 1, b'a', 1, 0, 0, 0, 9], {
                Value::Object(vec![("a".to_owned(), Value::Boolean(false))])
            }),
            (&[10, 0, 0, 0, 2, 5, 1, 1], Value::Array(vec![Value::Null, Value::Boolean(true)])),
            (&[11, 0x40, 0x50, 0, 0, 0, 0, 0, 0, 0, 60], Value::Date(64.0)),
            (&[12, 0, 0, 0, 2, b'a', b'b'], text("ab")),
            (&[13], Value::Null),
            (&[15, 0, 0, 0, 3, b'<', b'/', b'>'], text("</>")),
            (&[16, 0, 1, b'T', 0, 1, b'a', 5, 0, 0, 9], Value::Object(vec![("a".to_owned(), Value::Null)])),
            (&[17, 1], Value::Null),
            // The last object of a message may lack its end.
            (&[3, 0, 1, b'a', 5], Value::Object(vec![("a".to_owned(), Value::Null)])),
            (&[2, 0, 2, 0xff, b'a'], text("\u{fffd}a")),
        ] {
            assert_eq!(read_all(bytes), Ok(vec![expected]), "{bytes:02x?}");
        }
        for (bytes, expected) in [
            (&[0, 1, 2][..], AmfError::Truncated),
            (&[4], AmfError::Marker(4)),
            (&[7, 0, 1], AmfError::Marker(7)),
            (&[17, 10], AmfError::Marker(17)),
            (&[12, 0xff, 0xff, 0xff, 0xff, b'a'], AmfError::Truncated),
            (&[10, 0xff, 0xff, 0xff, 0xff, 5], AmfError::Truncated),
        ] {
            assert_eq!(read_all(bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn depth_and_number_of_values_end_at_their_bounds() {
        for (open, close) in [(&[3, 0, 1, b'a'][..], &[0, 0, 9][..]), (&[10, 0, 0, 0, 1], &[])] {
            let nested = |depth| [open.repeat(depth), vec![5], close.repeat(depth)].concat();
            assert!(read_all(&nested(DEPTH_MAX)).is_ok());
            assert_eq!(read_all(&nested(DEPTH_MAX + 1)), Err(AmfError::TooDeep));
            assert_eq!(read_all(&nested(100_000)), Err(AmfError::TooDeep));
        }
        assert!(read_all(&[5; ITEMS_MAX]).is_ok());
        assert_eq!(read_all(&[5; ITEMS_MAX + 1]), Err(AmfError::TooMany));
        assert_eq!(read_some(&[5; ITEMS_MAX + 1]).len(), ITEMS_MAX);
    }

    #[test]
    fn text_that_is_too_long_to_write_is_cut_between_characters() {
        let mut bytes = Vec::new();
        write(&text(&"ö".repeat(40_000)), &mut bytes);
        assert_eq!(read_all(&bytes), Ok(vec![text(&"ö".repeat(32_767))]));
    }
}
