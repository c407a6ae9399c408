//! Changes of stream keys.
use super::{ChangeError, Classes, KEY_FILE, KEYS_PER_CLASS_MAX, NewKey};
use crate::app::now_ms;
use crate::secret;
use crate::store::{Class, StreamKey};

impl Classes {
    /// Adds a key to a class.
    pub(crate) async fn add_key(&self, name: &str) -> Result<(Class, NewKey), ChangeError> {
        let _change = self.begin_change().await?;
        let (class, keys) = self.keys(name)?;
        if keys.len() >= KEYS_PER_CLASS_MAX {
            return Err(ChangeError::Full(KEYS_PER_CLASS_MAX));
        }
        let made = self.make_key(&class).await?;
        Ok((class, made))
    }

    async fn make_key(&self, class: &Class) -> Result<NewKey, ChangeError> {
        let secret = secret::random_stream_key();
        let key = StreamKey::new(&class.id, &secret, now_ms());
        self.store.add_stream_key(&key).await?;
        let made = NewKey { id: key.id.clone(), secret };
        self.write().put_key(key);
        Ok(made)
    }

    /// Revokes a key: whoever publishes with it is sent away when his node reports next. The key that people are shown is
    /// replaced by a new one in its file.
    pub(crate) async fn revoke_key(&self, name: &str, id: &str) -> Result<(), ChangeError> {
        let _change = self.begin_change().await?;
        self.revoke(name, id).await.map(|_| ())
    }

    /// Revokes a key and returns one in its place.
    pub(crate) async fn replace_key(&self, name: &str, id: &str) -> Result<NewKey, ChangeError> {
        let _change = self.begin_change().await?;
        if self.store.is_file_key(id).await? {
            return self.revoke(name, id).await?.1.ok_or(ChangeError::NoKey);
        }
        // In this order: a database that fails in between leaves a key that opens the class.
        let class = self.class(name).ok_or(ChangeError::NoClass)?;
        let made = self.make_key(&class).await?;
        self.revoke(name, id).await?;
        Ok(made)
    }

    /// Returns the key that people are shown from now on, if it was that.
    async fn revoke(&self, name: &str, id: &str) -> Result<(Class, Option<NewKey>), ChangeError> {
        let (class, keys) = self.keys(name)?;
        if !keys.iter().any(|(known, _)| known == id) {
            return Err(ChangeError::NoKey);
        }
        let now_ms = now_ms();
        if self.store.is_file_key(id).await? {
            let secret = secret::random_stream_key();
            let key = StreamKey::new(&class.id, &secret, now_ms);
            // It revokes the one that the file had.
            let shown = self.sealed(KEY_FILE, &secret)?;
            let put = self.store.put_file_key(&key, shown.as_ref(), now_ms);
            self.write_file_and(KEY_FILE, &secret, put).await?;
            let mut directory = self.write();
            directory.remove_key(id);
            let made = NewKey { id: key.id.clone(), secret };
            directory.put_key(key);
            Ok((class, Some(made)))
        } else {
            self.store.revoke_stream_key(id, now_ms).await?;
            self.write().remove_key(id);
            Ok((class, None))
        }
    }
}
