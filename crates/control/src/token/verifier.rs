//! The keys as a node holds them: fetched when a token names one that is not known, and again after a while, so that a
//! withdrawn key stops being trusted; and the revocations that it has heard of.
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::CACHE_CONTROL;
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::{Claims, KEYS_AGE_MAX, KeySet, Revocation, Revocations, TokenError};
use crate::body::{self, ReadError};

/// The coordinator answers from memory; what takes longer is an outage.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// When one coordinator has answered, the others have so much longer.
const STRAGGLE_MAX: Duration = Duration::from_millis(500);
/// Unknown keys lead to a fetch at most this often: strangers can name any key.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// A coordinator that did not answer is asked again after this long; until then the known keys are good.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a set of keys: one key has about 150.
const KEYS_BYTES_MAX: usize = 16 << 10;
/// Revocations that are kept: twice what a coordinator allows at a time, for two that are cut off from each other.
const REVOCATIONS_MAX: usize = 2048;

/// Verifies tokens with the coordinator's published keys; clones share them.
#[derive(Clone, Debug)]
pub struct TokenVerifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    jwks_urls: Vec<String>,
    http: reqwest::Client,
    keys: RwLock<KeySet>,
    /// What was heard from any coordinator, until it is over.
    revocations: RwLock<Arc<Revocations>>,
    /// Tells that there are more of them.
    revoked: watch::Sender<()>,
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
            revocations: RwLock::default(),
            revoked: watch::Sender::new(()),
            fetched: Mutex::default(),
            age_max: KEYS_AGE_MAX,
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

    /// Verifies a token with the keys and the revocations that are known.
    pub fn verify_offline(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        self.revocations().verify(&keys, token, now)
    }

    /// What is revoked at this moment.
    pub fn revocations(&self) -> Arc<Revocations> {
        Arc::clone(&self.0.revocations.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what a coordinator says is revoked. What others have said stays: one that is cut off does not know it yet.
    pub fn revoke(&self, list: &[Revocation], now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut known = self.0.revocations.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Revocations::clone(&known);
        next.forget(now);
        let mut left_out = 0;
        for revocation in list {
            if next.len() < REVOCATIONS_MAX || next.contains(&revocation.of) {
                next.add(revocation);
            } else {
                left_out += 1;
            }
        }
        let is_changed = **known != next;
        *known = Arc::new(next);
        drop(known);
        if left_out > 0 {
            tracing::error!(
                left_out,
                "coordinators have more revocations than a node keeps: some do not count"
            );
        }
        if is_changed {
            self.0.revoked.send_replace(());
        }
    }

    /// Hears of each change of what is revoked.
    pub fn revocation_changes(&self) -> watch::Receiver<()> {
        self.0.revoked.subscribe()
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

    /// From all coordinators that answer: one that is cut off from the others may not know their newest key yet.
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut fetching = JoinSet::new();
        for url in &self.0.jwks_urls {
            fetching.spawn(fetch_from(self.0.http.clone(), url.clone()));
        }
        let (mut keys, mut failure): (Option<KeySet>, _) = (None, None);
        loop {
            let next = match &keys {
                None => fetching.join_next().await,
                Some(_) => tokio::time::timeout(STRAGGLE_MAX, fetching.join_next()).await.unwrap_or(None),
            };
            match next {
                Some(Ok(Ok(more))) => keys = Some(keys.unwrap_or_default().and(more)),
                Some(Ok(Err(error))) => failure = Some(error),
                // It panicked, which the panic hook has logged.
                Some(Err(_)) => {}
                None => break,
            }
        }
        match (keys, failure) {
            (None, Some(error)) => Err(error),
            (keys, _) => Ok(keys.unwrap_or_default()),
        }
    }
}

/// The coordinator's own answer, and not one that something between has kept.
async fn fetch_from(http: reqwest::Client, url: String) -> Result<KeySet, FetchError> {
    let response = http.get(url).header(CACHE_CONTROL, "no-cache").send().await?.error_for_status()?;
    Ok(KeySet::parse(&body::read(response, KEYS_BYTES_MAX).await?)?)
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
    use crate::{Revoked, Right, Role};

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
            kid: String::new(),
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
        let node = verifier(&base, KEYS_AGE_MAX);
        assert_eq!(
            node.verify(&unknown).await,
            Err(TokenError::UnknownKey),
            "the coordinator does not know it"
        );
        serving.await.unwrap();
        let newcomer = verifier(&base, KEYS_AGE_MAX);
        assert_eq!(newcomer.verify(&known.1).await, Err(TokenError::NoKeys));
        assert_eq!(newcomer.verify(&unknown).await, Err(TokenError::NoKeys), "nor is it within the interval");
        assert_eq!(newcomer.verify("a.b.c").await, Err(TokenError::Invalid), "which no key would help");
        assert!(node.verify(&known.1).await.is_ok());
    }

    #[tokio::test]
    async fn keys_that_are_not_old_are_not_fetched_again() {
        let (set, token) = key_and_token("old");
        let (base, serving) = coordinator(vec![set, String::new()]).await;
        let verifier = verifier(&base, KEYS_AGE_MAX);
        for _ in 0..3 {
            assert!(verifier.verify(&token).await.is_ok());
        }
        assert!(!serving.is_finished(), "nobody asked a second time");
        serving.abort();
    }

    /// One that is cut off from the database may lack the newest key of the others, or not answer at all.
    #[tokio::test]
    async fn the_keys_are_those_of_all_coordinators_that_answer() {
        let ((old_set, old_token), (new_set, new_token)) = (key_and_token("old"), key_and_token("new"));
        let (first, serving_first) = coordinator(vec![old_set]).await;
        let (second, serving_second) = coordinator(vec![new_set]).await;
        // It takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bases = [first, second, format!("http://{}", silent.local_addr().unwrap())];
        let verifier = TokenVerifier::of(&bases).unwrap();
        for token in [old_token, new_token] {
            assert!(verifier.verify(&token).await.is_ok());
        }
        serving_first.await.unwrap();
        serving_second.await.unwrap();
    }

    fn revocation(token: &str, good_until: u64) -> Revocation {
        Revocation { of: Revoked::Token { token: token.to_owned() }, issued_until: 0, good_until }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn what_one_coordinator_has_revoked_stays_so_whatever_the_others_say() {
        let (set, token) = key_and_token("k1");
        let (base, serving) = coordinator(vec![set]).await;
        let node = verifier(&base, KEYS_AGE_MAX);
        let mut changes = node.revocation_changes();
        assert!(node.verify(&token).await.is_ok());
        serving.await.unwrap();
        let now = SystemTime::now();
        node.revoke(&[revocation("1", u64::MAX)], now);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        node.revoke(&[], now);
        node.revoke(&[revocation("1", u64::MAX)], now);
        assert!(!changes.has_changed().unwrap(), "nothing new");
        assert_eq!(node.verify(&token).await, Err(TokenError::Revoked));
    }

    #[test]
    fn revocations_are_kept_until_they_are_over_and_are_bounded() {
        let node = TokenVerifier::new("http://127.0.0.1:9").unwrap();
        node.revoke(&[revocation("early", 10), revocation("late", 20)], at(5));
        node.revoke(&[], at(10));
        assert_eq!(node.revocations().list(), [revocation("late", 20)]);
        let many: Vec<_> = (0..2 * REVOCATIONS_MAX).map(|n| revocation(&n.to_string(), 20)).collect();
        node.revoke(&many, at(11));
        assert_eq!(node.revocations().len(), REVOCATIONS_MAX);
        node.revoke(&[revocation("late", 30)], at(12));
        assert!(
            node.revocations().list().contains(&revocation("late", 30)),
            "what is known may still change"
        );
        node.revoke(&[revocation("new", 40)], at(20));
        assert_eq!(node.revocations().len(), 2, "the others are over");
    }

    /// Neither a signature's check nor a question to the coordinator is worth it.
    #[tokio::test]
    async fn what_a_revoked_key_has_signed_is_refused_without_asking_for_the_key() {
        let (_, token) = key_and_token("stolen");
        let node = TokenVerifier::new("http://127.0.0.1:9").unwrap();
        let of = Revoked::Key { kid: "stolen".to_owned() };
        node.revoke(&[Revocation { of, issued_until: 0, good_until: u64::MAX }], SystemTime::now());
        assert_eq!(node.verify(&token).await, Err(TokenError::Revoked));
        assert!(node.0.fetched.lock().await.tried.is_none());
    }
}
