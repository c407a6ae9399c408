//! How a machine becomes a node of the cluster.
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use control::api::{JoinAnswer, JoinRequest};
use control::certificate_name;

use super::caller::Caller;
use super::{Failure, Shared};
use crate::authority::Authority;
use crate::credential::NodeIdentity;

/// Bytes of a public address.
const URL_LEN_MAX: usize = 256;

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
    let known_as = certificate_name(&name).ok_or_else(|| {
        Failure::bad_request("a node's name has 1 to 63 lower-case letters, digits and hyphens")
    })?;
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
    let folder = app.link_folder.clone();
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
