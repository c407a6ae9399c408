//! Classes, their PINs and their keys.
use super::*;

fn key(class: &Class, secret: &str) -> StreamKey {
    StreamKey::new(&class.id, secret, 7)
}

async fn what_is_known_of_classes_and_keys_is_what_was_written(database: Database) {
    let store = database.store().await;
    let (room, hall) = (class(&store, "room").await, class(&store, "hall").await);
    let named = Class {
        id: "c".to_owned(),
        slug: "named".to_owned(),
        name: "\u{e4}\0b".to_owned(),
        pin_hash: Some("p".to_owned()),
    };
    let first = key(&named, "first");
    store.add_class(&named, Some(&first), 3).await.unwrap();
    store.put_pin(&room.id, "hash", None).await.unwrap();
    let (kept, revoked) = (key(&room, "kept"), key(&room, "revoked"));
    for key in [&kept, &revoked] {
        store.add_stream_key(key).await.unwrap();
    }
    store.revoke_stream_key(&revoked.id, 8).await.unwrap();
    let known = [
        hall,
        Class { name: "\u{e4}b".to_owned(), ..named },
        Class { pin_hash: Some("hash".to_owned()), ..room },
    ];
    assert_eq!(store.classes().await.unwrap(), known);
    let mut keys = store.stream_keys().await.unwrap();
    keys.sort_by_key(|key| key.hash != first.hash);
    assert_eq!(keys, [first, kept]);
}

async fn a_class_that_is_there_is_not_added_again_and_leaves_no_key(database: Database) {
    let store = database.store().await;
    let room = class(&store, "room").await;
    let again = Class { id: "another id".to_owned(), ..room.clone() };
    let outcome = store.add_class(&again, Some(&key(&again, "secret")), 0).await;
    assert!(matches!(outcome, Err(StoreError::Exists)), "{outcome:?}");
    // The connection is as good as before.
    store.put_pin(&room.id, "hash", None).await.unwrap();
    assert_eq!((store.classes().await.unwrap().len(), store.stream_keys().await.unwrap().len()), (1, 0));
}

async fn a_class_that_is_removed_gives_its_name_free(database: Database) {
    let store = database.store().await;
    let room = class(&store, "room").await;
    store.add_stream_key(&key(&room, "secret")).await.unwrap();
    store.remove_class(&room, 9).await.unwrap();
    assert_eq!((store.classes().await.unwrap(), store.stream_keys().await.unwrap()), (vec![], vec![]));
    let anew = Class { id: "another id".to_owned(), ..room };
    store.add_class(&anew, None, 10).await.unwrap();
    assert_eq!(store.classes().await.unwrap(), [anew]);
}

async fn the_file_has_one_key_and_one_that_was_revoked_stays_so(database: Database) {
    let store = database.store().await;
    let (room, hall) = (class(&store, "room").await, class(&store, "hall").await);
    let (first, second) = (key(&room, "first"), key(&room, "second"));
    assert!(store.put_file_key(&first, None, 1).await.unwrap());
    assert!(store.is_file_key(&first.id).await.unwrap());
    assert!(store.put_file_key(&second, None, 2).await.unwrap());
    assert!(!store.put_file_key(&first, None, 3).await.unwrap(), "it was revoked");
    assert!(
        store
            .put_file_key(&StreamKey { class_id: hall.id.clone(), ..second.clone() }, None, 4)
            .await
            .unwrap()
    );
    assert_eq!(store.stream_keys().await.unwrap(), [StreamKey { class_id: hall.id, ..second }]);
    assert!(!store.is_file_key("nobody").await.unwrap());
}

on_both!(
    what_is_known_of_classes_and_keys_is_what_was_written,
    a_class_that_is_there_is_not_added_again_and_leaves_no_key,
    a_class_that_is_removed_gives_its_name_free,
    the_file_has_one_key_and_one_that_was_revoked_stays_so,
);
