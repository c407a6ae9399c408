//! What other coordinators have changed.
use super::{ChangeError, Classes};
use crate::directory::{Directory, REVOKED_KEYS_MAX};
use crate::shared;
use crate::store::{Class, SealedSecret, StoreError};

impl Classes {
    /// Reads everything anew, because another coordinator has changed something, or may have.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        // A change of this one comes before or after, in memory as in the database.
        let _change = self.changes.lock().await;
        let (classes, keys) = (self.store.classes().await?, self.store.stream_keys().await?);
        let revoked = self.store.revoked_stream_keys(REVOKED_KEYS_MAX.get()).await?;
        let before = self.all();
        let has_new_pin = |class: &&Class| {
            let before = before.iter().find(|before| before.id == class.id);
            before.is_some_and(|before| before.pin_hash != class.pin_hash)
        };
        let with_new_pins: Vec<String> =
            classes.iter().filter(has_new_pin).map(|class| class.id.clone()).collect();
        *self.write() = Directory::new(classes, keys, revoked);
        for id in with_new_pins {
            self.guesses().on_new_pin(&id);
        }
        self.follow_files(self.store.secrets().await?).await;
        Ok(())
    }

    /// The key and the PIN that people are shown, and the keys that sign tokens, are those of every coordinator.
    async fn follow_files(&self, known: Vec<SealedSecret>) {
        let Some(seal) = self.seal.clone() else { return };
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || shared::follow(&seal, &known, &folder)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "key, PIN or signing keys in the data folder are not those of the cluster");
        }
    }

    /// What the other coordinators are given of a secret that people are shown.
    pub(super) fn sealed(&self, name: &str, secret: &str) -> Result<Option<SealedSecret>, ChangeError> {
        Ok(self.seal.as_deref().map(|seal| seal.seal(name, secret.as_bytes())).transpose()?)
    }
}
