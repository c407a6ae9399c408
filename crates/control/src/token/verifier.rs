//! The keys as a node holds them: fetched when a token names one that is not known, and again after a while, so that a
//! withdrawn key stops being trusted.
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::Mutex;

use super::{Claims, KeySet, TokenError};
use crate::body::{self, ReadError};

/// The coordinator answers from memory; what takes longer is an outage.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// Unknown keys lead to a fetch at most this often: strangers can name any key.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Keys older than this are fetched again: for this long a withdrawn key is trusted, if the coordinator answers.
const AGE_MAX: Duration = Duration::from_secs(300);
/// A coordinator that did not answer is asked again after this long; until then the known keys are good.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a set of keys: one key has about 150.
const KEYS_BYTES_MAX: usize = 16 << 10;

/// Verifies tokens with the coordinator's published keys; clones share them.
#[derive(Clone, Debug)]
pub struct TokenVerifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jwks_urls: Vec<String>,
    http: reqwest::Client,
    keys: RwLock<KeySet>,
    /// Held while a fetch is under way, so that there is only one.
    fetched: Mutex<Fetched>,
    age_max: Duration,
}

/// When the keys were fetched.
#[derive(Debug, Default)]
struct Fetched {
    /// When the last fetch ended, however it did.
    tried: Option<Instant>,
    /// When the last one succeeded.
    succeeded: Option<Instant>,
}

/// Why the keys could not be fetched.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the answer is not a set of keys: {0}")]
    Parse(#[from] serde_json::Error),
}

impl TokenVerifier {
    /// For the coordinator at `base`, such as `http://127.0.0.1:8000`.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        Self::of(&[base.to_owned()])
    }

    /// For several coordinators, which have the same keys.
    pub fn of(bases: &[String]) -> Result<Self, reqwest::Error> {
        let jwks_url = |base: &String| format!("{}/.well-known/jwks.json", base.trim_end_matches('/'));
        let http = reqwest::Client::builder().timeout(FETCH_TIMEOUT).no_proxy().build()?;
        Ok(Self(Arc::new(Inner {
            jwks_urls: bases.iter().map(jwks_url).collect(),
            http,
            keys: RwLock::default(),
            fetched: Mutex::default(),
            age_max: AGE_MAX,
        })))
    }

    /// Verifies a token; asks the coordinator for its keys only when the token names one that is not known, or when
    /// the known ones are old.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.renew().await;
        match self.verify_offline(token, SystemTime::now()) {
            Err(TokenError::UnknownKey) => {
                let is_current = self.refresh().await;
                match self.verify_offline(token, SystemTime::now()) {
                    Err(TokenError::UnknownKey) if !is_current => Err(TokenError::NoKeys),
                    outcome => outcome,
                }
            }
            outcome => outcome,
        }
    }

    /// Verifies a token with the keys that are known.
    pub fn verify_offline(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).verify(token, now)
    }

    /// Fetches the keys, unless that was just done. Failure leaves the known ones. Returns whether the last fetch succeeded.
    pub async fn refresh(&self) -> bool {
        let mut fetched = self.0.fetched.lock().await;
        if fetched.tried.is_none_or(|at| at.elapsed() >= REFRESH_INTERVAL) {
            self.fetch_into(&mut fetched).await;
        }
        fetched.succeeded == fetched.tried
    }

    /// Fetches keys that are old anew. One caller does so; the others go on with the known ones.
    async fn renew(&self) {
        let Ok(mut fetched) = self.0.fetched.try_lock() else { return };
        let is_old = fetched.succeeded.is_some_and(|at| at.elapsed() >= self.0.age_max);
        let retry_interval = RETRY_INTERVAL.min(self.0.age_max);
        if is_old && fetched.tried.is_none_or(|at| at.elapsed() >= retry_interval) {
            self.fetch_into(&mut fetched).await;
        }
    }

    async fn fetch_into(&self, fetched: &mut Fetched) {
        let outcome = self.fetch().await;
        // Counted from the end: whoever queued behind a fetch that took long has its outcome, and asks for no other.
        let now = Instant::now();
        fetched.tried = Some(now);
        match outcome {
            Ok(keys) => {
                fetched.succeeded = Some(now);
                *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(error) => tracing::warn!(%error, "the coordinator's keys cannot be fetched"),
        }
    }

    /// From the first that has them.
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut outcome = Ok(KeySet::default());
        for url in &self.0.jwks_urls {
            outcome = self.fetch_from(url).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn fetch_from(&self, url: &str) -> Result<KeySet, FetchError> {
        let response = self.0.http.get(url).send().await?.error_for_status()?;
        Ok(KeySet::parse(&body::read(response, KEYS_BYTES_MAX).await?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Right, Role};

    /// A set of keys with this one, and a token that it signed.
    fn key_and_token(kid: &str) -> (String, String) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let set = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{kid}","x":"{x}"}}]}}"#
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = Claims {
            iss: Claims::ISSUER.to_owned(),
            aud: Claims::AUDIENCE.to_owned(),
            sub: "ada".to_owned(),
            role: Role::Student,
            rights: vec![Right::View],
            cls: "lesson".to_owned(),
            exp: now + 60,
            nbf: now,
            iat: now,
            jti: "1".to_owned(),
            by: None,
            node: None,
        };
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        (set, encode(&header, &claims, &key).unwrap())
    }

    /// Answers each request with the next of these bodies, and none after the last.
    async fn coordinator(bodies: Vec<String>) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            for body in bodies {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        (base, serving)
    }

    fn verifier(base: &str, age_max: Duration) -> TokenVerifier {
        let mut verifier = TokenVerifier::new(base).unwrap();
        Arc::get_mut(&mut verifier.0).unwrap().age_max = age_max;
        verifier
    }

    #[tokio::test]
    async fn a_withdrawn_key_stops_being_trusted() {
        let ((old_set, old_token), (new_set, new_token)) = (key_and_token("old"), key_and_token("new"));
        let (base, serving) = coordinator(vec![old_set, new_set]).await;
        let verifier = verifier(&base, Duration::ZERO);
        assert!(verifier.verify(&old_token).await.is_ok());
        assert!(verifier.verify(&old_token).await.is_err(), "the coordinator does not publish it any more");
        assert!(verifier.verify_offline(&new_token, SystemTime::now()).is_ok());
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_coordinator_that_is_away_leaves_the_known_keys() {
        let (set, token) = key_and_token("old");
        let (base, serving) = coordinator(vec![set]).await;
        let verifier = verifier(&base, Duration::ZERO);
        assert!(verifier.verify(&token).await.is_ok());
        serving.await.unwrap();
        assert!(verifier.verify(&token).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_is_not_called_bad_while_the_keys_cannot_be_fetched() {
        let (known, (_, unknown)) = (key_and_token("old"), key_and_token("new"));
        let (base, serving) = coordinator(vec![known.0]).await;
        let node = verifier(&base, AGE_MAX);
        assert_eq!(
            node.verify(&unknown).await,
            Err(TokenError::UnknownKey),
            "the coordinator does not know it"
        );
        serving.await.unwrap();
        let newcomer = verifier(&base, AGE_MAX);
        assert_eq!(newcomer.verify(&known.1).await, Err(TokenError::NoKeys));
        assert_eq!(newcomer.verify(&unknown).await, Err(TokenError::NoKeys), "nor is it within the interval");
        assert_eq!(newcomer.verify("a.b.c").await, Err(TokenError::Invalid), "which no key would help");
        assert!(node.verify(&known.1).await.is_ok());
    }

    #[tokio::test]
    async fn keys_that_are_not_old_are_not_fetched_again() {
        let (set, token) = key_and_token("old");
        let (base, serving) = coordinator(vec![set, String::new()]).await;
        let verifier = verifier(&base, AGE_MAX);
        for _ in 0..3 {
            assert!(verifier.verify(&token).await.is_ok());
        }
        assert!(!serving.is_finished(), "nobody asked a second time");
        serving.abort();
    }
}
