//! Tokens that are void.
use control::{Revocation, Revoked};

use super::*;

fn of_class(class: &str) -> Revoked {
    Revoked::Class { class: class.to_owned() }
}

fn revocation(of: Revoked, issued_until: u64) -> Revocation {
    Revocation { of, issued_until, good_until: issued_until + 100 }
}

async fn what_is_revoked_is_known_after_a_restart(database: Database) {
    let [token, user, class, kid] = ["t1", "ada", "room", "k1"].map(str::to_owned);
    let all = [
        Revoked::Token { token },
        Revoked::User { user, class: class.clone() },
        Revoked::Class { class },
        Revoked::Key { kid },
    ];
    let all: Vec<_> = (1..).zip(all).map(|(at, of)| revocation(of, at)).collect();
    let store = database.store().await;
    for revocation in &all {
        store.add_revocation(revocation, 0).await.unwrap();
    }
    store.close().await;
    let mut known = database.store().await.revocations(0).await.unwrap();
    known.sort_by_key(|known| known.issued_until);
    assert_eq!(known, all);
}

async fn what_is_revoked_again_has_one_row_and_the_later_times(database: Database) {
    let store = database.store().await;
    for at in [5, 9, 7] {
        store.add_revocation(&revocation(of_class("room"), at), 0).await.unwrap();
    }
    assert_eq!(store.revocations(0).await.unwrap(), [revocation(of_class("room"), 9)]);
}

async fn what_is_over_is_dropped(database: Database) {
    let store = database.store().await;
    let (early, late) = (revocation(of_class("early"), 1), revocation(of_class("late"), 2));
    for revocation in [&early, &late] {
        store.add_revocation(revocation, 0).await.unwrap();
    }
    assert_eq!(store.revocations(101).await.unwrap(), std::slice::from_ref(&late));
    assert_eq!(store.revocations(0).await.unwrap().len(), 2, "only asking drops nothing");
    store.drop_revocations(101).await.unwrap();
    assert_eq!(store.revocations(0).await.unwrap(), [late]);
    let next = revocation(of_class("next"), 200);
    store.add_revocation(&next, 102).await.unwrap();
    assert_eq!(store.revocations(0).await.unwrap(), [next], "rows do not gather");
}

async fn the_keys_that_were_revoked_last_are_known(database: Database) {
    let store = database.store().await;
    let room = class(&store, "room").await;
    let keys = ["a", "b", "c", "d"].map(|secret| StreamKey::new(&room.id, secret, 0));
    for (key, at) in keys.iter().zip(1..) {
        store.add_stream_key(key).await.unwrap();
        if at < 4 {
            store.revoke_stream_key(&key.id, at).await.unwrap();
        }
    }
    assert_eq!(store.revoked_stream_keys(2).await.unwrap(), [keys[1].id.clone(), keys[2].id.clone()]);
}

on_both!(
    what_is_revoked_is_known_after_a_restart,
    what_is_revoked_again_has_one_row_and_the_later_times,
    what_is_over_is_dropped,
    the_keys_that_were_revoked_last_are_known,
);
