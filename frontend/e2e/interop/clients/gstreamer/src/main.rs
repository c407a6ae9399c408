//! Watches a lesson with GStreamer's `whepsrc`, decodes it, and says what was seen and heard.
//!
//! Usage: `gstreamer-viewer WHEP_URL TOKEN`. Prints one line, `RESULT` and JSON.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};

/// What is enough: three seconds of both.
const PICTURES: usize = 90;
const SAMPLES: usize = 3 * 48_000;
const LIMIT: Duration = Duration::from_secs(40);

/// What was decoded so far.
#[derive(Default)]
struct Seen {
    posted: Option<Instant>,
    first_ms: Option<u128>,
    pictures: usize,
    different: HashSet<u64>,
    width: i32,
    height: i32,
    samples: usize,
    /// The sum of the squares of the first channel.
    energy: f64,
    trouble: Option<String>,
}

impl Seen {
    fn is_enough(&self) -> bool {
        self.trouble.is_some() || (self.pictures >= PICTURES && self.samples >= SAMPLES)
    }

    fn on_picture(&mut self, pixels: &[u8], width: i32, height: i32) {
        self.first_ms = self.first_ms.or_else(|| self.posted.map(|at| at.elapsed().as_millis()));
        let mut hasher = DefaultHasher::new();
        pixels.hash(&mut hasher);
        self.different.insert(hasher.finish());
        self.pictures += 1;
        (self.width, self.height) = (width, height);
    }

    /// Interleaved stereo.
    fn on_sound(&mut self, bytes: &[u8]) {
        for frame in bytes.chunks_exact(8) {
            let value = f64::from(f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]));
            self.energy += value * value;
            self.samples += 1;
        }
    }

    /// The root mean square of the sound; 1 is as loud as can be.
    fn level(&self) -> f64 {
        match self.samples {
            0 => 0.0,
            samples => (self.energy / samples as f64).sqrt(),
        }
    }
}

/// What was seen, and how the main thread hears of it.
#[derive(Default)]
struct Board {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while holding it")
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(token)) = (arguments.next(), arguments.next()) else {
        panic!("usage: gstreamer-viewer WHEP_URL TOKEN");
    };
    gst::init().expect("GStreamer is installed");
    webrtchttp::plugin_register_static().expect("the plug-in registers");

    let board = Arc::new(Board::default());
    note_the_post(&board);
    let source = gst::ElementFactory::make("whepsrc")
        .property("whep-endpoint", url)
        .property("auth-token", token)
        .build()
        .expect("whepsrc is registered");
    let version = source
        .factory()
        .and_then(|factory| factory.plugin())
        .map(|plugin| plugin.version().to_string())
        .unwrap_or_default();
    let pipeline = gst::Pipeline::new();
    pipeline.add(&source).expect("the pipeline is empty");
    let (inside, onto) = (pipeline.downgrade(), board.clone());
    source.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = inside.upgrade() {
            decode(&pipeline, pad, &onto);
        }
    });
    let onto = board.clone();
    pipeline.bus().expect("a pipeline has a bus").set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let text = format!("{} ({})", error.error(), error.debug().unwrap_or_default());
            eprintln!("{text}");
            onto.note(|seen| {
                seen.trouble.get_or_insert(text);
            });
        }
        gst::BusSyncReply::Drop
    });

    pipeline.set_state(gst::State::Playing).expect("the pipeline starts");
    let seen = board.lock();
    let (seen, _) =
        board.changed.wait_timeout_while(seen, LIMIT, |seen| !seen.is_enough()).expect("nobody panics");
    print(&seen, &version);
    drop(seen);
    // Ends the session as well.
    let _ = pipeline.set_state(gst::State::Null);
}

/// `whepsrc` says nothing of its POST but in its log.
fn note_the_post(board: &Arc<Board>) {
    let (board, began) = (board.clone(), Instant::now());
    gst::log::set_threshold_for_name("whepsrc", gst::DebugLevel::Info);
    gst::log::remove_default_log_function();
    gst::log::add_log_function(move |category, level, _, _, _, _, message| {
        let text = message.get().map(|text| text.to_string()).unwrap_or_default();
        if category.name() == "whepsrc" && text.starts_with("Using endpoint") {
            board.lock().posted.get_or_insert_with(Instant::now);
        }
        if level <= gst::DebugLevel::Info {
            eprintln!("{:?} {} {text}", began.elapsed(), category.name());
        }
    });
}

/// Decodes what comes out of a pad of the source. What it is shows when the first packet comes.
fn decode(pipeline: &gst::Pipeline, pad: &gst::Pad, board: &Arc<Board>) {
    let decoder = gst::ElementFactory::make("decodebin").build().expect("decodebin is installed");
    let (inside, board) = (pipeline.downgrade(), board.clone());
    decoder.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = inside.upgrade() {
            count(&pipeline, pad, &board);
        }
    });
    pipeline.add(&decoder).expect("the decoder is new");
    decoder.sync_state_with_parent().expect("the decoder starts");
    pad.link(&decoder.static_pad("sink").expect("a decoder has its one pad"))
        .expect("decodebin takes anything");
}

/// Counts what comes out of a decoder.
fn count(pipeline: &gst::Pipeline, pad: &gst::Pad, board: &Arc<Board>) {
    let caps = pad.current_caps().expect("decodebin knows what it has decoded");
    eprintln!("decoded: {caps}");
    let is_picture = caps.structure(0).is_some_and(|first| first.name() == "video/x-raw");
    let description = match is_picture {
        true => "queue ! appsink name=sink sync=false",
        false => {
            "queue ! audioconvert ! audio/x-raw,format=F32LE,channels=2,layout=interleaved \
             ! appsink name=sink sync=false"
        }
    };
    let bin = gst::parse::bin_from_description(description, true).expect("the elements are installed");
    let sink = bin.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok()).expect("it is named so");
    let board = board.clone();
    let on_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let map =
            sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or(gst::FlowError::Error)?;
        let side = |name| sample.caps().and_then(|caps| caps.structure(0)?.get(name).ok()).unwrap_or(0);
        board.note(|seen| match is_picture {
            true => seen.on_picture(&map, side("width"), side("height")),
            false => seen.on_sound(&map),
        });
        Ok(gst::FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(on_sample).build());
    pipeline.add(&bin).expect("the bin is new");
    bin.sync_state_with_parent().expect("the sink starts");
    pad.link(&bin.static_pad("sink").expect("a bin has its one pad")).expect("raw media fit");
}

fn print(seen: &Seen, plugin: &str) {
    let Seen { pictures, width, height, samples, .. } = seen;
    let level = seen.level();
    let first_ms = seen.first_ms.map_or_else(|| "null".to_owned(), |first| first.to_string());
    let different = seen.different.len();
    let trouble = format!("{:?}", seen.trouble.as_deref().unwrap_or_default());
    let version = format!("{}, gst-plugin-webrtchttp {plugin}", gst::version_string());
    println!(
        "RESULT {{\"version\": \"{version}\", \"pictures\": {pictures}, \"different\": {different}, \
         \"width\": {width}, \"height\": {height}, \"samples\": {samples}, \"level\": {level}, \
         \"firstMs\": {first_ms}, \"trouble\": {trouble}}}"
    );
}
