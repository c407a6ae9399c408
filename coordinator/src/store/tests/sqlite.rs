//! What is SQLite's alone.
use control::{Revocation, Revoked};
use tempfile::TempDir;

use super::super::*;

#[tokio::test]
async fn a_full_disk_leaves_no_lock_behind() {
    let folder = TempDir::new().unwrap();
    let url = Store::sqlite_url(folder.path());
    sqlx::any::install_default_drivers();
    let other = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let pool = options(Kind::Sqlite, "NORMAL").max_connections(1).connect(&url).await.unwrap();
    pool.execute("CREATE TABLE large (content BLOB)").await.unwrap();
    // No room for another page.
    pool.execute("PRAGMA max_page_count = 1").await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let full = transaction.execute("INSERT INTO large VALUES (zeroblob(1000000))").await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    drop(transaction);
    // Another one that does not come to its end.
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("INSERT INTO large VALUES ('small')").await.unwrap();
    drop(transaction);
    pool.execute("SELECT 1").await.unwrap();
    other.execute("PRAGMA busy_timeout = 0").await.unwrap();
    other.execute("INSERT INTO large VALUES ('other')").await.expect("nobody holds the lock");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_at_once() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("lectern.db"), "no database at all, but long enough".repeat(100))
        .unwrap();
    let url = Store::sqlite_url(folder.path());
    let opening = Store::open(&url);
    // The pool's own patience is 30 s.
    let outcome = tokio::time::timeout(Duration::from_secs(20), opening).await.expect("it does not wait");
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("not a database"), "{error}");
}

#[tokio::test]
async fn classes_and_keys_are_written_to_the_disk_at_once_and_the_record_is_not() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    let mode = async |pool| sqlx::query_scalar::<_, i64>("PRAGMA synchronous").fetch_one(pool).await.unwrap();
    assert_eq!((mode(&store.lasting).await, mode(&store.pool).await), (2, 1), "FULL and NORMAL");
    let (id, slug) = ("id".to_owned(), "room".to_owned());
    let class = Class { id, name: slug.clone(), slug, pin_hash: None };
    let key = StreamKey::new(&class.id, "key", 0);
    let of = Revoked::Class { class: "room".to_owned() };
    let revocation = Revocation { of, issued_until: 1, good_until: 2 };
    store.lasting.close().await;
    for outcome in [
        store.add_class(&class, None, 0).await,
        store.remove_class(&class, 0).await,
        store.put_pin("id", "hash", None).await,
        store.add_stream_key(&key).await,
        store.revoke_stream_key(&key.id, 0).await,
        store.put_file_key(&key, None, 0).await.map(drop),
        store.add_revocation(&revocation, 0).await,
    ] {
        assert!(matches!(outcome, Err(StoreError::Database(sqlx::Error::PoolClosed))), "{outcome:?}");
    }
    store.record(&[]).await.unwrap();
    store.check().await.unwrap();
}
