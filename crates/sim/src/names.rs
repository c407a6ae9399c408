//! What numbers are called.

pub(crate) fn node_name(node: usize) -> String {
    format!("n{node}")
}

pub(crate) fn node_index(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

pub(crate) fn class_name(class: usize) -> String {
    format!("class-{class}")
}

pub(crate) fn class_index(name: &str) -> Option<usize> {
    name.strip_prefix("class-")?.parse().ok()
}

pub(crate) fn user_name(viewer: usize) -> String {
    format!("s{viewer}")
}
