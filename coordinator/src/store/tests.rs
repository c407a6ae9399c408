//! What both databases must do alike, on both of them.
mod classes;
mod revocations;
mod sessions;
mod sqlite;

use tempfile::TempDir;
use testkit::Postgres;

use super::*;

/// A database of its own for one test.
pub(super) struct Database {
    url: String,
    _folder: Option<TempDir>,
}

impl Database {
    fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        Self { url: Store::sqlite_url(folder.path()), _folder: Some(folder) }
    }

    fn postgres() -> Self {
        Self { url: Postgres::shared().create_database(), _folder: None }
    }

    /// What one coordinator has of it.
    async fn store(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }
}

/// Runs each of these tests on each database.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::store::tests::Database::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::store::tests::Database::postgres()).await;
            })+
        }
    };
}
use on_both;

/// A class that is there.
async fn class(store: &Store, slug: &str) -> Class {
    let class =
        Class { id: format!("id of {slug}"), name: slug.to_owned(), slug: slug.to_owned(), pin_hash: None };
    store.add_class(&class, None, 0).await.unwrap();
    class
}

#[tokio::test]
async fn a_database_that_is_opened_twice_at_once_is_migrated_once() {
    let database = Database::postgres();
    let (first, second) = tokio::join!(database.store(), database.store());
    for store in [first, second] {
        store.check().await.unwrap();
        assert_eq!(store.classes().await.unwrap(), []);
        store.close().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_soon() {
    let nowhere = TempDir::new().unwrap();
    let url = format!("postgres:///none?host={}", nowhere.path().display());
    let opened =
        tokio::time::timeout(Duration::from_secs(20), Store::open(&url)).await.expect("it does not wait");
    assert!(opened.is_err());
}
