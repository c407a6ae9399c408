//! The classes and their keys in memory: what tokens and publishers are checked against, also while the database is away.
use std::collections::{BTreeMap, HashMap};

use crate::secret;
use crate::store::{Class, StreamKey};

/// Classes at most, about 3 MB; a school system has hundreds.
pub(crate) const CLASSES_MAX: usize = 10_000;
/// Valid keys of one class at most: a teacher, a second device, a substitute, and room.
pub(crate) const KEYS_PER_CLASS_MAX: usize = 16;

/// Classes by name, keys by hash.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    classes: BTreeMap<String, Class>,
    /// The names by id.
    slugs: HashMap<String, String>,
    keys: HashMap<String, StreamKey>,
}

impl Directory {
    /// From everything that the database has. More than the bounds allow is kept: it was there before they were.
    pub(crate) fn new(classes: Vec<Class>, keys: Vec<StreamKey>) -> Self {
        let mut directory = Self::default();
        classes.into_iter().for_each(|class| directory.put_class(class));
        keys.into_iter().for_each(|key| directory.put_key(key));
        directory
    }

    pub(crate) fn class(&self, slug: &str) -> Option<&Class> {
        self.classes.get(slug)
    }

    /// All classes by name.
    pub(crate) fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.values()
    }

    /// The class that a stream key belongs to.
    pub(crate) fn class_of_key(&self, key: &str) -> Option<&Class> {
        let key = self.keys.get(&secret::hash(key))?;
        self.class(self.slugs.get(&key.class_id)?)
    }

    /// The keys of a class, oldest first.
    pub(crate) fn keys(&self, class_id: &str) -> Vec<&StreamKey> {
        let mut keys: Vec<_> = self.keys.values().filter(|key| key.class_id == class_id).collect();
        keys.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        keys
    }

    /// A class that is new, or has another PIN.
    pub(crate) fn put_class(&mut self, class: Class) {
        self.slugs.insert(class.id.clone(), class.slug.clone());
        self.classes.insert(class.slug.clone(), class);
    }

    pub(crate) fn put_key(&mut self, key: StreamKey) {
        self.keys.insert(key.hash.clone(), key);
    }

    pub(crate) fn remove_key(&mut self, id: &str) {
        self.keys.retain(|_, key| key.id != id);
    }

    /// Removes a class with its keys.
    pub(crate) fn remove_class(&mut self, class: &Class) {
        self.classes.remove(&class.slug);
        self.slugs.remove(&class.id);
        self.keys.retain(|_, key| key.class_id != class.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(slug: &str) -> Class {
        Class { id: format!("id of {slug}"), slug: slug.to_owned(), name: slug.to_owned(), pin_hash: None }
    }

    #[test]
    fn a_key_opens_its_class_until_one_of_them_is_gone() {
        let (a, b) = (class("a"), class("b"));
        let keys = [("one", &a), ("two", &a), ("three", &b)];
        let keys = keys.map(|(key, class)| StreamKey::new(&class.id, key, 0));
        let (first, mut directory) = (keys[0].id.clone(), Directory::new(vec![a.clone(), b], keys.to_vec()));
        let opened = |directory: &Directory, key| directory.class_of_key(key).map(|class| class.slug.clone());
        assert_eq!(opened(&directory, "one").as_deref(), Some("a"));
        assert_eq!(opened(&directory, "three").as_deref(), Some("b"));
        directory.remove_key(&first);
        assert_eq!(opened(&directory, "one"), None);
        assert_eq!(opened(&directory, "two").as_deref(), Some("a"));
        directory.remove_class(&a);
        assert_eq!((opened(&directory, "two"), directory.class("a")), (None, None));
        assert_eq!(opened(&directory, "three").as_deref(), Some("b"));
    }
}
