//! Tokens against a set of keys, in the time that the test says it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{Claims, KeySet, Right, Role, TokenError};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const ISSUED: u64 = 1_800_000_000;
const TTL: u64 = 3600;

struct Signer {
    kid: &'static str,
    pkcs8: Vec<u8>,
    public: String,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Self { kid, pkcs8: pair.to_pkcs8v1().unwrap().as_ref().to_vec(), public }
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": self.public })
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(json!({ "keys": [self.jwk()] }).to_string().as_bytes()).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.to_owned());
        encode(&header, claims, &EncodingKey::from_ed_der(&self.pkcs8)).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "iss": Claims::ISSUER, "aud": Claims::AUDIENCE, "sub": "s-1", "role": "student", "rights": ["view"],
        "cls": "lesson", "exp": ISSUED + TTL, "nbf": ISSUED, "iat": ISSUED, "jti": "1",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_token_says_who_may_do_what_where() {
    let signer = Signer::new("k1");
    let said = signer.keys().verify(&signer.sign(&claims()), at(ISSUED)).unwrap();
    assert_eq!((said.sub.as_str(), said.cls.as_str()), ("s-1", "lesson"));
    assert_eq!((said.role, said.rights.as_slice()), (Role::Student, [Right::View].as_slice()));
}

#[test]
fn a_token_is_good_from_its_first_to_its_last_second_and_thirty_more_on_either_side() {
    let signer = Signer::new("k1");
    let (keys, token) = (signer.keys(), signer.sign(&claims()));
    assert_eq!(keys.verify(&token, at(ISSUED - 31)), Err(TokenError::Invalid));
    assert!(keys.verify(&token, at(ISSUED - 30)).is_ok());
    assert!(keys.verify(&token, at(ISSUED + TTL + 29)).is_ok());
    assert_eq!(keys.verify(&token, at(ISSUED + TTL + 30)), Err(TokenError::Expired));
    let endless = signer.sign(&with("exp", json!(u64::MAX)));
    assert!(keys.verify(&endless, at(ISSUED)).is_ok(), "no overflow");
}

#[test]
fn a_forged_token_is_refused() {
    let (ours, theirs) = (Signer::new("k1"), Signer::new("k1"));
    let keys = ours.keys();
    assert_eq!(keys.verify(&theirs.sign(&claims()), at(ISSUED)), Err(TokenError::Invalid), "another key");
    let token = ours.sign(&claims());
    let [header, _, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let teacher = URL_SAFE_NO_PAD.encode(with("role", json!("teacher")).to_string());
    let forged = format!("{header}.{teacher}.{signature}");
    assert_eq!(keys.verify(&forged, at(ISSUED)), Err(TokenError::Invalid), "another body");
    for length in 0..token.len() {
        assert!(keys.verify(&token[..length], at(ISSUED)).is_err(), "cut at {length}");
    }
}

#[test]
fn the_algorithm_is_ours_to_say() {
    let signer = Signer::new("k1");
    let keys = signer.keys();
    let body = URL_SAFE_NO_PAD.encode(claims().to_string());
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": "k1" }).to_string());
    assert_eq!(keys.verify(&format!("{header}.{body}."), at(ISSUED)), Err(TokenError::Invalid));
    // The public key as the secret of an HMAC: the classic confusion.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".to_owned());
    let secret = URL_SAFE_NO_PAD.decode(&signer.public).unwrap();
    for secret in [secret.as_slice(), signer.public.as_bytes()] {
        let token = encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(keys.verify(&token, at(ISSUED)), Err(TokenError::Invalid));
    }
}

#[test]
fn a_token_for_another_audience_or_from_another_issuer_is_foreign() {
    let signer = Signer::new("k1");
    for (name, value) in [("aud", "another-service"), ("iss", "another-school")] {
        let token = signer.sign(&with(name, json!(value)));
        assert_eq!(signer.keys().verify(&token, at(ISSUED)), Err(TokenError::Foreign), "{name}");
    }
}

#[test]
fn a_token_that_leaves_a_claim_out_is_refused() {
    let signer = Signer::new("k1");
    for name in ["iss", "aud", "sub", "role", "rights", "cls", "exp", "nbf", "iat", "jti"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert!(signer.keys().verify(&signer.sign(&claims), at(ISSUED)).is_err(), "{name}");
    }
}

#[test]
fn a_key_that_is_not_known_is_told_apart_so_that_the_keys_can_be_asked_for() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    assert_eq!(old.keys().verify(&new.sign(&claims()), at(ISSUED)), Err(TokenError::UnknownKey));
    let without_kid =
        encode(&Header::new(Algorithm::EdDSA), &claims(), &EncodingKey::from_ed_der(&old.pkcs8)).unwrap();
    assert_eq!(old.keys().verify(&without_kid, at(ISSUED)), Err(TokenError::Invalid));
}

#[test]
fn a_token_that_is_too_long_is_not_looked_at() {
    let signer = Signer::new("k1");
    let long = signer.sign(&with("sub", json!("s".repeat(5000))));
    assert_eq!(signer.keys().verify(&long, at(ISSUED)), Err(TokenError::Invalid));
}

#[test]
fn keys_of_other_kinds_are_left_out_and_the_set_is_bounded() {
    let signer = Signer::new("k1");
    let octets = json!({ "kty": "oct", "kid": "k2", "k": "c2VjcmV0" });
    let set = json!({ "keys": [octets, signer.jwk()] });
    let keys = KeySet::parse(set.to_string().as_bytes()).unwrap();
    assert!(keys.verify(&signer.sign(&claims()), at(ISSUED)).is_ok());
    assert_eq!(format!("{keys:?}"), r#"{"k1"}"#);
    let many: Vec<Value> = (0..100)
        .map(|n| {
            let mut jwk = signer.jwk();
            jwk["kid"] = json!(n.to_string());
            jwk
        })
        .collect();
    let keys = KeySet::parse(json!({ "keys": many }).to_string().as_bytes()).unwrap();
    assert_eq!(format!("{keys:?}").matches(',').count(), 31);
    assert!(KeySet::parse(b"<html>").is_err());
}

#[test]
fn a_role_is_the_same_word_in_tokens_and_in_records() {
    for role in [Role::Student, Role::Teacher, Role::Monitor] {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
}
