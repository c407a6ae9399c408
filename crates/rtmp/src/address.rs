//! Where a publisher wants to go, in all the ways in which encoders let people type it.

/// The name of a class and the secret, as far as the publisher gave them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamAddress {
    /// The class, if the address names one beside the key.
    pub name: Option<String>,
    /// The stream key.
    pub key: Option<String>,
}

impl StreamAddress {
    /// From the application and the stream key of a connection.
    ///
    /// `rtmp://host/live/room101?k=S` names the class and the secret; `?key=S` means the same. `rtmp://host/live/S` and
    /// `rtmp://host/S`, which some apps send as application `S` with an empty key, give the bare secret. A secret in
    /// the application's query, and applications of several segments, occur where apps split the address elsewhere.
    pub fn parse(app: &str, stream_key: &str) -> Self {
        let (app_path, app_query) = split_query(app);
        let (key_path, key_query) = split_query(stream_key);
        // The last segment is what people call the stream, the first is "live" or anything.
        let segments: Vec<&str> =
            app_path.split('/').chain(key_path.split('/')).filter(|segment| !segment.is_empty()).collect();
        let last = segments.last().map(|segment| decode(segment));
        let secret = secret_of(key_query).or_else(|| secret_of(app_query));
        match secret {
            Some(key) => {
                Self { name: last.filter(|_| !key_path.is_empty() || segments.len() > 1), key: Some(key) }
            }
            None => Self { name: None, key: last },
        }
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn secret_of(query: &str) -> Option<String> {
    query.split(['&', '?']).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (matches!(name, "k" | "key") && !value.is_empty()).then(|| decode(value))
    })
}

/// RFC 3986, section 2.1. What is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push((high << 4) | low);
            rest = after.get(2..).unwrap_or(&[]);
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_typing_an_address_is_understood() {
        let both = (Some("room101"), Some("S-1"));
        let bare = (None, Some("S-1"));
        for (app, key, expected) in [
            ("live", "room101?k=S-1", both),
            ("live", "room101?key=S-1", both),
            ("live", "room101?user=x&key=S-1&y=z", both),
            ("live?k=S-1", "room101", both),
            ("live/room101?key=S-1", "", both),
            ("live/room101", "?key=S-1", both),
            ("live", "room%31%301?k=S%2D1", both),
            ("live", "S-1", bare),
            ("S-1", "", bare),
            ("live/S-1", "", bare),
            ("live/", "/S-1", bare),
            ("live/x", "S-1", bare),
            ("live?k=S-1", "", bare),
            ("", "", (None, None)),
            ("live", "100%", (None, Some("100%"))),
        ] {
            let address = StreamAddress::parse(app, key);
            assert_eq!((address.name.as_deref(), address.key.as_deref()), expected, "{app:?} {key:?}");
        }
    }
}
