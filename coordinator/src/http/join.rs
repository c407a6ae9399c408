//! How a machine becomes a node of the cluster.
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use control::api::{JoinAnswer, JoinRequest};

use super::caller::Caller;
use super::{Failure, Shared};
use crate::authority::Authority;
use crate::credential::NodeIdentity;

/// Bytes of a public address.
const URL_LEN_MAX: usize = 256;
/// What a node's name in its certificate ends with.
const DOMAIN: &str = ".node.lectern.internal";

/// Gives a machine that knows the secret a name, a credential for it, and a certificate.
pub(super) async fn join(
    State(app): Shared,
    caller: Caller,
    request: Result<Json<JoinRequest>, JsonRejection>,
) -> Result<Json<JoinAnswer>, Failure> {
    if !caller.may_join(&app) {
        return Err(Failure::unauthorized("this takes the secret that nodes join with"));
    }
    let Json(request) = request.map_err(|error| Failure::bad_request(&error.body_text()))?;
    let JoinRequest { name, public_url, certificate_request } = request;
    if !is_label(&name) {
        return Err(Failure::bad_request("a node's name has 1 to 63 lower-case letters, digits and hyphens"));
    }
    let is_web = |url: &String| {
        url.len() <= URL_LEN_MAX && (url.starts_with("http://") || url.starts_with("https://"))
    };
    if !public_url.as_ref().is_none_or(is_web) {
        return Err(Failure::bad_request("a node's public address begins with http:// or https://"));
    }
    // Two of one name would end each other's sessions.
    if app.registry().is_heard(Instant::now(), &name) {
        return Err(Failure::name_taken());
    }
    let (folder, known_as) = (app.link_folder.clone(), format!("{name}{DOMAIN}"));
    let signed = tokio::task::spawn_blocking(move || {
        let authority = Authority::open(&folder)?;
        let certificate = authority.sign_for_node(&certificate_request, known_as)?;
        Ok::<_, crate::authority::AuthorityError>((certificate, authority.pem().to_owned()))
    });
    let (certificate, authority) = match signed.await {
        Ok(Ok(signed)) => signed,
        Ok(Err(error)) => {
            tracing::warn!(%error, name, "a node cannot be given a certificate");
            return Err(Failure::bad_request(&error.to_string()));
        }
        Err(_) => return Err(Failure::internal()),
    };
    tracing::info!(name, "a node has joined");
    let identity = NodeIdentity { name, public_url };
    let credential = identity.credential(&app.node_secret);
    Ok(Json(JoinAnswer { credential, certificate, authority }))
}

/// Whether a name can stand in a certificate: a label of the DNS.
fn is_label(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
