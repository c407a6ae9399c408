//! The classes and their keys in memory: what tokens and publishers are checked against, also while the database is away.
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::secret;
use crate::store::{Class, StreamKey};

/// Classes at most, about 3 MB; a school system has hundreds.
pub(crate) const CLASSES_MAX: usize = 10_000;
/// Valid keys of one class at most: a teacher, a second device, a substitute, and room.
pub(crate) const KEYS_PER_CLASS_MAX: usize = 16;

/// Keys that were revoked last and are known: a publisher who has one is sent away within a second, so that a few would do.
pub(crate) const REVOKED_KEYS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// Classes by name, keys by hash.
#[derive(Debug)]
pub(crate) struct Directory {
    classes: BTreeMap<String, Class>,
    /// The names by id.
    slugs: HashMap<String, String>,
    keys: HashMap<String, StreamKey>,
    /// By their ids. That a key is not known is no proof that it was revoked: another coordinator may just have made it.
    revoked: LruCache<String, ()>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            classes: BTreeMap::default(),
            slugs: HashMap::default(),
            keys: HashMap::default(),
            revoked: LruCache::new(REVOKED_KEYS_MAX),
        }
    }
}

impl Directory {
    /// From everything that the database has. More than the bounds allow is kept: it was there before they were.
    pub(crate) fn new(classes: Vec<Class>, keys: Vec<StreamKey>, revoked: Vec<String>) -> Self {
        let mut directory = Self::default();
        classes.into_iter().for_each(|class| directory.put_class(class));
        keys.into_iter().for_each(|key| directory.put_key(key));
        revoked.into_iter().for_each(|id| directory.on_revoked(id));
        directory
    }

    pub(crate) fn class(&self, slug: &str) -> Option<&Class> {
        self.classes.get(slug)
    }

    /// All classes by name.
    pub(crate) fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.values()
    }

    /// The class that a stream key belongs to, and the key's id.
    pub(crate) fn class_of_key(&self, key: &str) -> Option<(&Class, &str)> {
        let key = self.keys.get(&secret::hash(key))?;
        Some((self.class(self.slugs.get(&key.class_id)?)?, &key.id))
    }

    /// Whether the key with this id was revoked, and not long ago.
    pub(crate) fn is_revoked(&self, id: &str) -> bool {
        self.revoked.contains(id)
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
        self.remove_keys(|key| key.id == id);
    }

    /// Removes a class with its keys.
    pub(crate) fn remove_class(&mut self, class: &Class) {
        self.classes.remove(&class.slug);
        self.slugs.remove(&class.id);
        self.remove_keys(|key| key.class_id == class.id);
    }

    fn remove_keys(&mut self, mut is_removed: impl FnMut(&StreamKey) -> bool) {
        let removed: Vec<_> = self.keys.extract_if(|_, key| is_removed(key)).map(|(_, key)| key.id).collect();
        removed.into_iter().for_each(|id| self.on_revoked(id));
    }

    fn on_revoked(&mut self, id: String) {
        self.revoked.put(id, ());
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
        let ids = keys.each_ref().map(|key| key.id.clone());
        let mut directory = Directory::new(vec![a.clone(), b], keys.to_vec(), vec!["former".to_owned()]);
        let opened =
            |directory: &Directory, key| directory.class_of_key(key).map(|(class, _)| class.slug.clone());
        let revoked = |directory: &Directory| ids.each_ref().map(|id| directory.is_revoked(id));
        assert_eq!(directory.class_of_key("one").map(|(_, id)| id), Some(&*ids[0]));
        assert!(directory.is_revoked("former") && !directory.is_revoked("unknown"));
        assert_eq!(opened(&directory, "one").as_deref(), Some("a"));
        assert_eq!(opened(&directory, "three").as_deref(), Some("b"));
        assert_eq!(revoked(&directory), [false, false, false]);
        directory.remove_key(&ids[0]);
        assert_eq!(opened(&directory, "one"), None);
        assert_eq!(revoked(&directory), [true, false, false]);
        assert_eq!(opened(&directory, "two").as_deref(), Some("a"));
        directory.remove_class(&a);
        assert_eq!((opened(&directory, "two"), directory.class("a")), (None, None));
        assert_eq!(revoked(&directory), [true, true, false]);
        assert_eq!(opened(&directory, "three").as_deref(), Some("b"));
    }

    #[test]
    fn of_the_revoked_keys_the_last_ones_are_known() {
        let ids: Vec<_> = (0..=REVOKED_KEYS_MAX.get()).map(|n| n.to_string()).collect();
        let directory = Directory::new(vec![], vec![], ids.clone());
        assert!(!directory.is_revoked(&ids[0]) && directory.is_revoked(&ids[1]));
        assert!(directory.is_revoked(&ids[REVOKED_KEYS_MAX.get()]));
    }
}
