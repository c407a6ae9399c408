//! The same pictures over quinn alone: a QUIC stream for each second of a lesson, written as they are made and read away.
use std::sync::{Arc, Mutex};

use link::Identity;
use media::Frame;
use quinn::{Endpoint, SendStream, TransportConfig, VarInt};
use tokio::sync::mpsc;

use crate::cluster::{Authority, picture};
use crate::{Lessons, Side, teach};

/// Returns how many bytes have come.
pub(crate) fn run(origin: &Side, edge: &Side, lessons: Lessons) -> Arc<Mutex<u64>> {
    let authority = Authority::new();
    let [of_origin, of_edge] = ["origin", "edge"].map(|name| authority.identity(name));
    let address = origin.run(async move { serve(&of_origin, lessons) });
    let bytes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&bytes);
    edge.run(async move {
        let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let mut config = quinn::ClientConfig::new(of_edge.client());
        config.transport_config(Arc::new(transport()));
        endpoint.set_default_client_config(config);
        let name = control::certificate_name("origin").unwrap();
        let connection = endpoint.connect(address, &name).unwrap().await.unwrap();
        tokio::spawn(async move {
            while let Ok(mut stream) = connection.accept_uni().await {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
                        *counted.lock().unwrap() += chunk.bytes.len() as u64;
                    }
                });
            }
            drop(endpoint);
        });
    });
    bytes
}

/// Quinn's own, for as many streams.
fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config.max_concurrent_uni_streams(VarInt::from_u32(4096));
    config
}

/// Takes one connection, and writes all lessons to it.
fn serve(identity: &Identity, lessons: Lessons) -> std::net::SocketAddr {
    let mut config = quinn::ServerConfig::with_crypto(identity.server());
    config.transport_config(Arc::new(transport()));
    let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let writers: Vec<_> = (0..lessons.number)
            .map(|_| {
                let (pictures, made) = mpsc::unbounded_channel();
                tokio::spawn(write(connection.clone(), made));
                pictures
            })
            .collect();
        teach(lessons, |number, index| _ = writers[number].send(picture(index))).await;
    });
    address
}

async fn write(connection: quinn::Connection, mut made: mpsc::UnboundedReceiver<Frame>) {
    let mut open: Option<SendStream> = None;
    while let Some(frame) = made.recv().await {
        let Frame::Video(video) = frame else { continue };
        if (video.keyframe || open.is_none())
            && let Some(mut former) = open.replace(connection.open_uni().await.unwrap())
        {
            let _ = former.finish();
        }
        let Some(stream) = &mut open else { continue };
        for nal in video.nals.iter() {
            stream.write_chunk(nal.clone()).await.unwrap();
        }
    }
}
