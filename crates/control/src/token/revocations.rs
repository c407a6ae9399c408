//! Tokens that are void before they expire: as coordinators tell nodes of them, and as both look them up.
use std::collections::HashMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Claims, KeySet, TokenError, key_of};

/// Which tokens are void.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Revoked {
    /// A single one.
    Token {
        /// Its number, `jti`.
        token: String,
    },
    /// Those of a user in a class.
    User {
        /// The user.
        user: String,
        /// The class.
        class: String,
    },
    /// Those of a class.
    Class {
        /// The class.
        class: String,
    },
    /// Those that a key has signed.
    Key {
        /// The key.
        kid: String,
    },
}

/// That tokens are void. It is never taken back: a viewer who may watch after all gets a new token.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    #[serde(flatten)]
    pub of: Revoked,
    /// Of a user and of a class, those that were issued until then, in seconds since 1970.
    pub issued_until: u64,
    /// When the last of them expires at the latest, in seconds since 1970. After that nothing needs to be known of them.
    pub good_until: u64,
}

/// By what a revocation knows a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks<'a> {
    /// Its number.
    pub token: &'a str,
    /// The key that signed it.
    pub kid: &'a str,
    /// Its class.
    pub class: &'a str,
    /// Its user.
    pub user: &'a str,
    /// When it was issued, in seconds since 1970.
    pub issued_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    issued_until: u64,
    good_until: u64,
}

/// What is revoked, without a clock of its own. Whoever adds to it bounds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    tokens: HashMap<String, Times>,
    keys: HashMap<String, Times>,
    classes: HashMap<String, Times>,
    /// By class, and then by user.
    users: HashMap<String, HashMap<String, Times>>,
}

impl Revocations {
    /// Adds one. A later one of the same tokens takes the place of the former. Returns whether anything has changed.
    pub fn add(&mut self, revocation: &Revocation) -> bool {
        let Revocation { of, issued_until, good_until } = revocation;
        let entry = match of.clone() {
            Revoked::Token { token } => self.tokens.entry(token),
            Revoked::Key { kid } => self.keys.entry(kid),
            Revoked::Class { class } => self.classes.entry(class),
            Revoked::User { user, class } => self.users.entry(class).or_default().entry(user),
        };
        let mut is_new = false;
        let times = entry.or_insert_with(|| {
            is_new = true;
            Times { issued_until: *issued_until, good_until: *good_until }
        });
        let before = *times;
        times.issued_until = before.issued_until.max(*issued_until);
        times.good_until = before.good_until.max(*good_until);
        is_new || *times != before
    }

    /// Forgets those that concern no token any longer. Returns whether there were any.
    pub fn forget(&mut self, now: u64) -> bool {
        let before = self.len();
        let is_needed = |times: &Times| times.good_until > now;
        for flat in [&mut self.tokens, &mut self.keys, &mut self.classes] {
            flat.retain(|_, times| is_needed(times));
        }
        self.users.retain(|_, users| {
            users.retain(|_, times| is_needed(times));
            !users.is_empty()
        });
        self.len() < before
    }

    /// Whether one of these tokens is known already.
    pub fn contains(&self, of: &Revoked) -> bool {
        match of {
            Revoked::Token { token } => self.tokens.contains_key(token),
            Revoked::Key { kid } => self.keys.contains_key(kid),
            Revoked::Class { class } => self.classes.contains_key(class),
            Revoked::User { user, class } => self.users_of(class).is_some_and(|of| of.contains_key(user)),
        }
    }

    fn users_of(&self, class: &str) -> Option<&HashMap<String, Times>> {
        self.users.get(class)
    }

    /// Whether a token is void.
    pub fn cover(&self, marks: &Marks<'_>) -> bool {
        let issued_until = self.issued_until(marks.class, marks.user);
        self.tokens.contains_key(marks.token)
            || self.keys.contains_key(marks.kid)
            || issued_until.is_some_and(|until| marks.issued_at <= until)
    }

    /// Until when the tokens of a user in a class must have been issued to be void, if any are.
    pub fn issued_until(&self, class: &str, user: &str) -> Option<u64> {
        let of_user = self.users_of(class).and_then(|users| users.get(user));
        let times = self.classes.get(class).into_iter().chain(of_user);
        times.map(|times| times.issued_until).max()
    }

    /// When a token is issued that is given at `now`: after those that are void, whatever the clocks say that they were given by.
    pub fn issued_at(&self, now: u64, class: &str, user: &str) -> u64 {
        self.issued_until(class, user).map_or(now, |until| now.max(until.saturating_add(1)))
    }

    /// When the last of these tokens is issued that is given until `now`, by this rule.
    pub fn last_issued_at(&self, now: u64, of: &Revoked) -> u64 {
        match of {
            Revoked::User { user, class } => self.issued_at(now, class, user),
            Revoked::Class { class } => {
                let users = self.users_of(class).into_iter().flat_map(HashMap::keys);
                let last = users.map(|user| self.issued_at(now, class, user)).max();
                last.unwrap_or(now).max(self.issued_at(now, class, ""))
            }
            Revoked::Token { .. } | Revoked::Key { .. } => now,
        }
    }

    /// Verifies a token with these keys, if it is not revoked. What a revoked key has signed is not worth a signature's
    /// check, nor a question for a key that is withdrawn.
    pub fn verify(&self, keys: &KeySet, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        if !self.keys.is_empty() && key_of(token).is_some_and(|kid| self.keys.contains_key(&kid)) {
            return Err(TokenError::Revoked);
        }
        let claims = keys.verify(token, now)?;
        if self.cover(&claims.marks()) { Err(TokenError::Revoked) } else { Ok(claims) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let users: usize = self.users.values().map(HashMap::len).sum();
        self.tokens.len() + self.keys.len() + self.classes.len() + users
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in an order that does not depend on how they came.
    pub fn list(&self) -> Vec<Revocation> {
        let entry = |of: Revoked, Times { issued_until, good_until }: Times| Revocation {
            of,
            issued_until,
            good_until,
        };
        let tokens =
            self.tokens.iter().map(|(token, times)| entry(Revoked::Token { token: token.clone() }, *times));
        let keys = self.keys.iter().map(|(kid, times)| entry(Revoked::Key { kid: kid.clone() }, *times));
        let classes =
            self.classes.iter().map(|(class, times)| entry(Revoked::Class { class: class.clone() }, *times));
        let users = self.users.iter().flat_map(|(class, users)| {
            let of = move |user: &String| Revoked::User { user: user.clone(), class: class.clone() };
            users.iter().map(move |(user, times)| entry(of(user), *times))
        });
        let mut all: Vec<_> = tokens.chain(keys).chain(classes).chain(users).collect();
        all.sort_by(|a, b| a.of.cmp(&b.of));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(of: Revoked, issued_until: u64) -> Revocation {
        Revocation { of, issued_until, good_until: issued_until + 100 }
    }

    fn of_class(class: &str) -> Revoked {
        Revoked::Class { class: class.to_owned() }
    }

    fn of_user(user: &str, class: &str) -> Revoked {
        Revoked::User { user: user.to_owned(), class: class.to_owned() }
    }

    const MARKS: Marks<'_> = Marks { token: "t1", kid: "k1", class: "room", user: "ada", issued_at: 50 };

    fn with(of: Revoked, issued_until: u64) -> Revocations {
        let mut revocations = Revocations::default();
        assert!(revocations.add(&revocation(of, issued_until)));
        revocations
    }

    #[test]
    fn a_token_is_void_by_its_number_its_key_its_class_or_its_user_and_by_nothing_else() {
        let token = |token: &str| Revoked::Token { token: token.to_owned() };
        let key = |kid: &str| Revoked::Key { kid: kid.to_owned() };
        for of in [token("t1"), key("k1"), of_class("room"), of_user("ada", "room")] {
            assert!(with(of.clone(), 50).cover(&MARKS), "{of:?}");
        }
        for of in [token("t2"), key("k2"), of_class("hall"), of_user("ada", "hall"), of_user("bob", "room")] {
            assert!(!with(of.clone(), 50).cover(&MARKS), "{of:?}");
        }
        assert!(!Revocations::default().cover(&MARKS));
    }

    #[test]
    fn of_a_class_and_of_a_user_only_what_was_issued_until_then_is_void() {
        for of in [of_class("room"), of_user("ada", "room")] {
            assert!(!with(of.clone(), 49).cover(&MARKS), "{of:?}: a token that was given afterwards");
            assert!(with(of.clone(), 51).cover(&MARKS), "{of:?}");
        }
        let of = Revoked::Token { token: "t1".to_owned() };
        assert!(with(of, 0).cover(&MARKS), "its number is its own, whatever the clocks say");
    }

    #[test]
    fn the_later_of_two_counts_in_whatever_order_they_come() {
        let mut revocations = with(of_class("room"), 49);
        assert!(!revocations.add(&revocation(of_class("room"), 40)), "nothing new");
        assert!(!revocations.cover(&MARKS));
        assert!(revocations.add(&revocation(of_class("room"), 60)));
        assert!(!revocations.add(&revocation(of_class("room"), 60)));
        assert!(revocations.cover(&MARKS));
        assert!(revocations.add(&revocation(of_user("ada", "room"), 70)));
        assert_eq!(revocations.issued_until("room", "ada"), Some(70));
        assert_eq!(revocations.issued_until("room", "bob"), Some(60));
        assert_eq!(revocations.issued_until("hall", "ada"), None);
    }

    /// Of two revocations in one second the second one covers what was given between them.
    #[test]
    fn a_token_that_is_given_after_a_revocation_is_good_until_the_next_one() {
        for first in [of_class("room"), of_user("ada", "room")] {
            for second in [of_class("room"), of_user("ada", "room")] {
                let mut revocations = with(first.clone(), 50);
                let issued_at = revocations.issued_at(50, "room", "ada");
                let given = Marks { issued_at, ..MARKS };
                assert!(!revocations.cover(&given), "{first:?}");
                let until = revocations.last_issued_at(50, &second);
                revocations.add(&revocation(second.clone(), until));
                assert!(revocations.cover(&given), "{first:?}, {second:?}");
                let next = Marks { issued_at: revocations.issued_at(50, "room", "ada"), ..MARKS };
                assert!(!revocations.cover(&next));
            }
        }
        let revocations = with(of_class("room"), 50);
        assert_eq!(revocations.issued_at(90, "room", "ada"), 90, "later the clock counts");
        assert_eq!(revocations.issued_at(50, "hall", "ada"), 50);
        assert_eq!(revocations.last_issued_at(50, &of_class("hall")), 50);
    }

    #[test]
    fn what_concerns_no_token_any_longer_is_forgotten() {
        let mut revocations = with(of_class("room"), 50);
        revocations.add(&revocation(of_user("ada", "room"), 60));
        assert!(!revocations.forget(149));
        assert!(revocations.forget(150));
        assert_eq!(revocations.list(), [revocation(of_user("ada", "room"), 60)]);
        assert!(revocations.forget(160) && revocations.is_empty());
        assert_eq!(revocations, Revocations::default(), "nothing is left of it");
    }

    #[test]
    fn the_list_says_all_of_them_in_words_that_are_read_back() {
        let all = [
            revocation(Revoked::Token { token: "t1".to_owned() }, 1),
            revocation(of_user("ada", "room"), 2),
            revocation(of_class("room"), 3),
            revocation(Revoked::Key { kid: "k1".to_owned() }, 4),
        ];
        let mut revocations = Revocations::default();
        for revocation in all.iter().rev() {
            assert!(!revocations.contains(&revocation.of));
            revocations.add(revocation);
            assert!(revocations.contains(&revocation.of));
        }
        assert_eq!((revocations.list(), revocations.len()), (all.to_vec(), 4));
        let text = serde_json::to_string(&all[1]).unwrap();
        assert_eq!(text, r#"{"of":"user","user":"ada","class":"room","issued_until":2,"good_until":102}"#);
        assert_eq!(serde_json::from_str::<Revocation>(&text).unwrap(), all[1]);
    }
}
