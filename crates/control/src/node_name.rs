//! What nodes may be called, and how their certificates name them.

/// What the name in a node's certificate ends with.
const DOMAIN: &str = ".node.lectern.internal";

/// The name by which certificates know a node: its own has to be a label of the DNS, or there is none.
pub fn certificate_name(node: &str) -> Option<String> {
    let is_label = (1..=63).contains(&node.len())
        && node.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !node.starts_with('-')
        && !node.ends_with('-');
    is_label.then(|| format!("{node}{DOMAIN}"))
}

/// The node that a certificate's name is of.
pub fn node_of_certificate(name: &str) -> Option<&str> {
    name.strip_suffix(DOMAIN)
}
