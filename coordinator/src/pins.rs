//! PINs: short enough to be read out in class, so a plain hash of one can be turned back by trying all. What is kept is
//! an HMAC under a secret that is not in the database: whoever has the database alone learns nothing.
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use rand::Rng;

use crate::secret;
use crate::store::Class;

/// Digits of a PIN that is made at random.
const PIN_LEN: usize = 6;
/// Characters of a PIN that somebody chose.
pub(crate) const PIN_LEN_MIN: usize = 6;
pub(crate) const PIN_LEN_MAX: usize = 64;
/// What hashes of this kind begin with. Before them there were plain SHA-256 hashes.
const PREFIX: &str = "hmac:";

/// Hashes PINs and compares them.
pub(crate) struct Pins(hmac::Key);

impl Pins {
    /// With the secret of the data folder.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// What is kept of a class's PIN. Equal PINs of two classes do not look equal.
    pub(crate) fn hash(&self, class_id: &str, pin: &str) -> String {
        self.wrap(class_id, &secret::hash(pin))
    }

    /// What is kept in place of a plain hash. Hashes of both origins are the same, so that nobody needs to enter a PIN
    /// for its hash to be replaced. `None` if it is not plain.
    pub(crate) fn migrate(&self, class: &Class) -> Option<String> {
        let plain = class.pin_hash.as_deref().filter(|hash| !hash.starts_with(PREFIX))?;
        Some(self.wrap(&class.id, plain))
    }

    /// Whether this is the class's PIN. It takes as long when there is no class, or the class has no PIN.
    pub(crate) fn is_right(&self, class: Option<&Class>, pin: &str) -> bool {
        let (id, kept) =
            class.map_or(("", ""), |class| (&*class.id, class.pin_hash.as_deref().unwrap_or("")));
        verify_slices_are_equal(self.hash(id, pin).as_bytes(), kept.as_bytes()).is_ok()
    }

    fn wrap(&self, class_id: &str, plain: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(class_id.as_bytes());
        context.update(&[0]);
        context.update(plain.as_bytes());
        PREFIX.to_owned() + &secret::hex(context.sign().as_ref())
    }
}

/// A PIN at random.
pub(crate) fn random() -> String {
    let mut rng = rand::rng();
    (0..PIN_LEN).map(|_| char::from(b'0' + rng.random_range(0..10_u8))).collect()
}

/// Whether somebody may choose this PIN. It travels in a header.
pub(crate) fn is_allowed(pin: &str) -> bool {
    (PIN_LEN_MIN..=PIN_LEN_MAX).contains(&pin.len()) && pin.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(id: &str, pin_hash: Option<String>) -> Class {
        Class { id: id.to_owned(), slug: "room".to_owned(), name: "Room".to_owned(), pin_hash }
    }

    #[test]
    fn a_hash_says_nothing_without_the_secret() {
        let (ours, theirs) = (Pins::new(b"ours"), Pins::new(b"theirs"));
        assert_ne!(ours.hash("a", "123456"), theirs.hash("a", "123456"));
        assert_ne!(ours.hash("a", "123456"), ours.hash("b", "123456"));
        assert!(!ours.hash("a", "123456").contains(&secret::hash("123456")));
    }

    #[test]
    fn a_plain_hash_becomes_the_same_as_one_made_today() {
        let pins = Pins::new(b"secret");
        let old = class("a", Some(secret::hash("1234")));
        let migrated = pins.migrate(&old).unwrap();
        assert_eq!(migrated, pins.hash("a", "1234"));
        let new = class("a", Some(migrated));
        assert!(pins.is_right(Some(&new), "1234") && !pins.is_right(Some(&new), "1235"));
        assert_eq!(pins.migrate(&new), None);
    }

    #[test]
    fn without_a_class_or_a_pin_nothing_is_right() {
        let pins = Pins::new(b"secret");
        assert!(!pins.is_right(None, ""));
        assert!(!pins.is_right(Some(&class("a", None)), ""));
    }
}
