//! The web application, embedded: its files, and those that were compressed when it was built.
use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::http::Failure;
use crate::secret;

/// Scripts, styles and pictures come from here alone; media and its signalling may come from any node.
const POLICY: &str = "default-src 'self'; connect-src * ; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
    style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'";
/// The page plays; it records nothing, and neither does anything that gets into it.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const MISSING: &str = "<!doctype html><title>Lectern</title><p>The web application was not built into this program. \
    Run <code>make frontend</code> and build again.";
/// Encodings and the ends of their files' names, the smallest first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];
/// Characters of an ETag: 96 bits of the file's hash.
const ETAG_LEN: usize = 24;

#[derive(RustEmbed)]
#[folder = "../frontend/dist"]
struct Files;

/// A file as it is sent.
struct Asset {
    plain: Bytes,
    /// The names of encodings and what it is in them, the smallest first.
    encoded: Vec<(&'static str, Bytes)>,
    etag: HeaderValue,
}

static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let is_encoding = |name: &str| ENCODINGS.iter().any(|(_, suffix)| name.ends_with(suffix));
    let names = Files::iter().filter(|name| !is_encoding(name));
    let assets = names.filter_map(|name| Some((name.to_string(), Asset::new(file(&name)?, &name))));
    let mut assets: BTreeMap<String, Asset> = assets.collect();
    assets
        .entry("index.html".to_owned())
        .or_insert_with(|| Asset::new(Bytes::from_static(MISSING.as_bytes()), ""));
    assets
});

impl Asset {
    fn new(plain: Bytes, name: &str) -> Self {
        let encoded = ENCODINGS.iter().filter_map(|(coding, suffix)| {
            Some((*coding, file(&format!("{name}{suffix}")).filter(|encoded| encoded.len() < plain.len())?))
        });
        let encoded = encoded.collect();
        let hash: String = secret::hash_bytes(&plain).chars().take(ETAG_LEN).collect();
        // Weak: the encodings are the same to whoever asks, but not byte for byte (RFC 9110 section 8.8.3.3).
        let etag =
            HeaderValue::try_from(format!("W/\"{hash}\"")).unwrap_or(HeaderValue::from_static("W/\"\""));
        Self { plain, encoded, etag }
    }
}

fn file(name: &str) -> Option<Bytes> {
    Files::get(name).map(|file| Bytes::from(file.data.into_owned()))
}

/// The pages of the application: it reads the rest of the path itself.
fn is_page(path: &str) -> bool {
    path.is_empty() || ["watch", "teach", "monitor"].contains(&path.split('/').next().unwrap_or(path))
}

/// Serves a page or a file of the application.
pub(crate) async fn serve(uri: Uri, request: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let name = if is_page(path) { "index.html" } else { path };
    let Some(asset) = ASSETS.get(name) else {
        // A script of an older version above all: a page in its place would be a syntax error in some browser.
        return Failure::not_found("there is no such page").into_response();
    };
    let mut response = if is_known(&request, &asset.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if let Some((coding, bytes)) = asset.encoded.iter().find(|(coding, _)| takes(&request, coding)) {
        ([(CONTENT_ENCODING, *coding)], Body::from(bytes.clone())).into_response()
    } else {
        Response::new(Body::from(asset.plain.clone()))
    };
    let headers = response.headers_mut();
    // File names under assets/ carry a hash of their content; the page itself must be asked for each time.
    let caching =
        if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(ETAG, asset.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Whether the browser has this version: `If-None-Match` is compared weakly (RFC 9110 section 13.1.2).
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Some(own) = etag.to_str().ok().map(opaque) else { return false };
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || opaque(tag) == own)
}

/// Whether an encoding is accepted and not ruled out by a weight of zero (RFC 9110 section 12.5.3).
fn takes(request: &HeaderMap, wanted: &str) -> bool {
    let accepted = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (coding, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        coding.trim().eq_ignore_ascii_case(wanted) && weight.is_none_or(|weight| weight > 0.0)
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "webmanifest") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
