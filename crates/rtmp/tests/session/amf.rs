//! AMF0 as a publisher writes it, byte for byte and without the crate's own writer.

pub(crate) fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&[2][..], &name(text)].concat()
}

pub(crate) fn null() -> Vec<u8> {
    vec![5]
}

pub(crate) fn object(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [&[3][..], &pairs(properties), &[0, 0, 9]].concat()
}

/// An ECMA array, as most encoders send their metadata. Its count is a hint, and often wrong.
pub(crate) fn ecma_array(count: u32, properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    [&[8][..], &count.to_be_bytes(), &pairs(properties), &[0, 0, 9]].concat()
}

pub(crate) fn strict_array(values: &[Vec<u8>]) -> Vec<u8> {
    [&[10][..], &u32::try_from(values.len()).unwrap().to_be_bytes(), &values.concat()].concat()
}

pub(crate) fn command(name: &str, transaction: f64, values: &[Vec<u8>]) -> Vec<u8> {
    [string(name), number(transaction), values.concat()].concat()
}

fn pairs(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    properties.iter().flat_map(|(key, value)| [name(key), value.clone()].concat()).collect()
}

fn name(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}
