//! The operator's way in at the machine itself: a Unix socket in the data folder, which the file system guards, or the
//! data folder alone when no server runs on it.
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request};
use axum::{Extension, Router};
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixListener;
use tower::ServiceExt;

use crate::app::App;
use crate::config::Config;
use crate::http;
use crate::server::{self, BindError};

/// The socket in the data folder.
const SOCKET: &str = "operator.sock";
/// The file whose lock says that a process uses the data folder.
const LOCK: &str = "lock";
/// Bytes of a socket's path (`sun_path` of unix(7), with its final zero).
const SOCKET_PATH_MAX: usize = 107;
/// Bytes of an answer: the list of all classes is the longest.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Request extension: it came through the operator's socket. Nothing that travels in a request can set it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperatorSocket;

/// Takes the data folder for this process, for as long as the file is open: classes and keys are kept in memory, and two
/// processes would not know of each other's changes.
pub(crate) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens the socket. Whoever holds the lock of the folder may remove what another process left there.
pub(crate) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(Short::new(folder)?.path())?;
    // Nobody else gets this far before: the folder is its owner's alone.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The routes as the socket has them: whoever can open it is an operator.
pub(crate) fn router(app: Arc<App>) -> Router {
    http::router(app).layer(Extension(OperatorSocket))
}

/// A path to the socket that fits into an address: through the open folder if its own name is too long.
struct Short {
    path: PathBuf,
    _folder: Option<File>,
}

impl Short {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
            return Ok(Self { path, _folder: None });
        }
        let open = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join(SOCKET);
        Ok(Self { path, _folder: Some(open) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Does what operators do, at the machine itself: through the server that runs on the data folder, or in its place.
pub struct Operator(Way);

enum Way {
    Socket { http: reqwest::Client, _path: Short },
    Folder { router: Router, app: Arc<App>, _lock: File },
}

/// Why a call was not answered.
#[derive(Debug, Error)]
pub enum CallError {
    /// The server that runs on the data folder does not answer.
    #[error("a server uses the data folder, but its operator socket does not answer")]
    Socket(#[from] reqwest::Error),
    /// The data folder cannot be read.
    #[error("the data folder cannot be used")]
    Folder(#[from] io::Error),
    /// It cannot be used in the server's place.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Answer(#[from] axum::Error),
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Request(#[from] axum::http::Error),
    /// The answer is not JSON.
    #[error("the answer is not JSON")]
    Json(#[from] serde_json::Error),
}

impl Operator {
    /// For the data folder of these settings, which must be there.
    pub async fn open(config: Config) -> Result<Self, CallError> {
        config.validate().map_err(BindError::from)?;
        fs::metadata(&config.data_dir)?;
        let folder = config.data_dir.clone();
        let Some(lock) = lock(&folder)? else {
            let path = Short::new(&folder)?;
            let http = reqwest::Client::builder().no_proxy().unix_socket(path.path().to_owned()).build()?;
            return Ok(Self(Way::Socket { http, _path: path }));
        };
        let (app, _) = server::open(&config, &prometheus::Registry::new()).await?;
        let app = Arc::new(app);
        Ok(Self(Way::Folder { router: router(Arc::clone(&app)), app, _lock: lock }))
    }

    /// Sends one request and returns the status and the body of the answer, `Null` if it has none.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value), CallError> {
        let (status, answer) = match &self.0 {
            Way::Socket { http, .. } => {
                let request = http.request(method, format!("http://operator{path}")).json(body);
                let response = request.send().await?;
                (response.status().as_u16(), response.bytes().await?)
            }
            Way::Folder { router, .. } => {
                let request =
                    Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
                let request = request.body(Body::from(body.to_string()))?;
                let response = match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                (response.status().as_u16(), to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?)
            }
        };
        let answer = if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer)? };
        Ok((status, answer))
    }

    /// Closes the database, if it was opened here.
    pub async fn close(self) {
        if let Way::Folder { app, .. } = self.0 {
            app.classes.close().await;
        }
    }
}
