//! The web application, embedded.
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::http::Failure;

/// Scripts, styles and pictures come from here alone; media and its signalling may come from any node.
const POLICY: &str = "default-src 'self'; connect-src * ; img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
    style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'";
const MISSING: &str = "<!doctype html><title>Lectern</title><p>The web application was not built into this program. \
    Run <code>make frontend</code> and build again.";

#[derive(RustEmbed)]
#[folder = "../frontend/dist"]
struct Files;

/// The pages of the application: it reads the rest of the path itself.
fn is_page(path: &str) -> bool {
    path.is_empty() || path == "watch" || path.starts_with("watch/")
}

/// Serves a page or a file of the application.
pub(crate) async fn serve(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let name = if is_page(path) { "index.html" } else { path };
    let file = Files::get(name);
    if file.is_none() && name != "index.html" {
        // A script of an older version above all: a page in its place would be a syntax error in some browser.
        return Failure::not_found("there is no such page").into_response();
    }
    let body = file.map_or_else(|| Body::from(MISSING), |file| Body::from(file.data.into_owned()));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // File names under assets/ carry a hash of their content; the page itself must be asked for each time.
    let caching =
        if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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
