//! What a hop from node to node costs, on loopback: CPU a gigabit at each end beside quinn alone in the same run, the time that it
//! adds to a frame, and the time to the first picture of a node that has nothing yet. `make bench-hop` runs it.
#![expect(clippy::print_stdout, reason = "this is what it is run for")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that cannot go on fails")]

#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/nodes/cluster.rs"]
mod cluster;
mod plain;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::{Authority, picture, tracks};
use hub::{Hub, Limits, Update};
use link::Link;
use media::Frame;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Lessons of 1.7 Mbit/s, 30 pictures a second, a keyframe of 40 kB each second; 340 Mbit/s together. Lessons do not begin at one
/// moment, so their keyframes are spread over that second; a run with all of them in 33 ms is there to be seen.
const LESSONS: usize = 200;
/// Of which the time of the frames is looked at.
const WATCHED: usize = 10;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(1);
const PICTURE_US: u64 = 33_333;
const KEYFRAME_US: u64 = 30 * PICTURE_US;
/// Nodes that pull a lesson of which they have nothing.
const COLD: usize = 30;
const TARGET_HOP: Duration = Duration::from_millis(2);
const TARGET_COLD: Duration = Duration::from_millis(60);

/// When each picture of the watched lessons was made.
type Made = Arc<Mutex<Vec<Vec<Instant>>>>;

fn main() {
    for (lessons, begin_within_us) in [(20, KEYFRAME_US), (LESSONS, KEYFRAME_US), (LESSONS, PICTURE_US)] {
        let lessons = Lessons { number: lessons, begin_within_us };
        let through_link = measure(lessons, Way::Link);
        let plain = measure(lessons, Way::Plain);
        println!(
            "{} lessons, {:.0} Mbit/s, their keyframes within {} ms",
            lessons.number,
            through_link.mbps,
            begin_within_us / 1000
        );
        println!("  link:  {through_link}");
        println!("  quinn: {plain}");
        println!(
            "  link / quinn: {:.2} at the origin, {:.2} at the other end",
            through_link.origin_s_per_gbit / plain.origin_s_per_gbit,
            through_link.edge_s_per_gbit / plain.edge_s_per_gbit
        );
        let p99 = through_link.percentile(99);
        let verdict = if p99 <= TARGET_HOP { "met" } else { "missed" };
        println!(
            "  from hub to hub p50 {:?}, p99 {p99:?} (target {TARGET_HOP:?}: {verdict})",
            through_link.percentile(50)
        );
    }
    let mut cold = first_pictures();
    cold.sort_unstable();
    let (p50, most) = (cold[cold.len() / 2], cold[cold.len() - 1]);
    let verdict = if most <= TARGET_COLD { "met" } else { "missed" };
    println!(
        "first picture at a node without a connection or the stream: p50 {p50:?}, longest of {COLD} {most:?} (target {TARGET_COLD:?}: {verdict})"
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Link,
    /// The same bytes in as many QUIC streams, with quinn's own settings.
    Plain,
}

/// How many there are, and the time in which they begin, each at its own place: their keyframes have these places too.
#[derive(Clone, Copy)]
struct Lessons {
    number: usize,
    begin_within_us: u64,
}

/// What one way costs.
struct Cost {
    mbps: f64,
    origin_s_per_gbit: f64,
    edge_s_per_gbit: f64,
    /// From the one hub to the other.
    delays: Vec<Duration>,
}

impl Cost {
    fn percentile(&self, percent: usize) -> Duration {
        self.delays.get(self.delays.len() * percent / 100).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (origin, edge) = (self.origin_s_per_gbit, self.edge_s_per_gbit);
        write!(f, "{origin:.2} s of CPU a Gbit at the origin, {edge:.2} at the other end")
    }
}

/// A thread with a runtime of its own, whose CPU time can be told.
struct Side {
    runtime: Option<std::thread::JoinHandle<()>>,
    handle: tokio::runtime::Handle,
    end: CancellationToken,
}

impl Side {
    fn start() -> Self {
        let (told, handle) = std::sync::mpsc::channel();
        let end = CancellationToken::new();
        let until = end.clone();
        let runtime = std::thread::spawn(move || {
            let runtime: Runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            told.send(runtime.handle().clone()).unwrap();
            runtime.block_on(until.cancelled());
        });
        Self { runtime: Some(runtime), handle: handle.recv().unwrap(), end }
    }

    /// Runs something there and waits for it.
    fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        let (told, answer) = std::sync::mpsc::channel();
        self.handle.spawn(async move { told.send(what.await).map_err(|_| ()) });
        answer.recv().unwrap()
    }

    /// Seconds on a processor so far.
    fn cpu_s(&self) -> f64 {
        self.run(async {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(runtime) = self.runtime.take() {
            let _ = runtime.join();
        }
    }
}

fn measure(lessons: Lessons, way: Way) -> Cost {
    let (origin, edge) = (Side::start(), Side::start());
    let made: Made = Arc::new(Mutex::new(vec![Vec::new(); lessons.number.min(WATCHED)]));
    let delays = Arc::new(Mutex::new(Vec::new()));
    let bytes = match way {
        Way::Link => through_link(&origin, &edge, lessons, &made, &delays),
        Way::Plain => plain::run(&origin, &edge, lessons),
    };
    std::thread::sleep(WARM_UP);
    let before = (origin.cpu_s(), edge.cpu_s(), *bytes.lock().unwrap());
    delays.lock().unwrap().clear();
    std::thread::sleep(MEASURED);
    let after = (origin.cpu_s(), edge.cpu_s(), *bytes.lock().unwrap());
    let gbit = (after.2 - before.2) as f64 * 8.0 / 1e9;
    let mut delays = std::mem::take(&mut *delays.lock().unwrap());
    delays.sort_unstable();
    Cost {
        mbps: gbit * 1e3 / MEASURED.as_secs_f64(),
        origin_s_per_gbit: (after.0 - before.0) / gbit,
        edge_s_per_gbit: (after.1 - before.1) / gbit,
        delays,
    }
}

fn class(number: usize) -> String {
    format!("room-{number}")
}

fn node(side: &Side, authority: &Arc<Authority>, name: &'static str) -> (Hub, Link) {
    let authority = Arc::clone(authority);
    side.run(async move {
        let hub = Hub::new(Limits::default());
        let link = Link::bind(([127, 0, 0, 1], 0).into(), authority.identity(name), hub.clone()).unwrap();
        let running = link.clone();
        tokio::spawn(async move { running.run(CancellationToken::new()).await });
        (hub, link)
    })
}

/// Publishes at one node, pulls at the other and takes every frame from its hub. Returns how many bytes of pictures have come there.
fn through_link(
    origin: &Side,
    edge: &Side,
    lessons: Lessons,
    made: &Made,
    delays: &Arc<Mutex<Vec<Duration>>>,
) -> Arc<Mutex<u64>> {
    let authority = Arc::new(Authority::new());
    let (at_origin, link_origin) = node(origin, &authority, "origin");
    let (at_edge, link_edge) = node(edge, &authority, "edge");
    let address = link_origin.local_addr().unwrap();
    let (made_there, hub) = (Arc::clone(made), at_origin);
    origin.run(async move {
        let publishers: Vec<_> =
            (0..lessons.number).map(|number| hub.publish(&class(number), "s", 1).unwrap()).collect();
        publishers.iter().for_each(|publisher| publisher.set_tracks(&tracks()).unwrap());
        tokio::spawn(teach(lessons, move |number, index| {
            if number < WATCHED {
                made_there.lock().unwrap()[number].push(Instant::now());
            }
            let _ = publishers[number].push(picture(index));
        }));
    });
    let bytes = Arc::new(Mutex::new(0));
    let (counted, made, delays) = (Arc::clone(&bytes), Arc::clone(made), Arc::clone(delays));
    edge.run(async move {
        for number in 0..lessons.number {
            let (link, hub) = (link_edge.clone(), at_edge.clone());
            tokio::spawn(async move {
                let mut pulled = link.pull(&class(number), "origin", address).await.unwrap();
                pulled.run().await
            });
            let (counted, made, delays) = (Arc::clone(&counted), Arc::clone(&made), Arc::clone(&delays));
            tokio::spawn(async move {
                let mut subscription = subscribe(&hub, &class(number)).await;
                while let Some(update) = subscription.next().await {
                    let Update::Frame(item) = update else { continue };
                    let Frame::Video(video) = &item.frame else { continue };
                    *counted.lock().unwrap() += video.nals.iter().map(|nal| nal.len() as u64).sum::<u64>();
                    if number < WATCHED {
                        let index = u32::from_be_bytes(video.nals[0][1..5].try_into().unwrap());
                        let at = made.lock().unwrap()[number][index as usize];
                        delays.lock().unwrap().push(at.elapsed());
                    }
                }
            });
        }
    });
    bytes
}

/// Makes the pictures of all lessons at their times, each lesson at its own.
async fn teach(lessons: Lessons, make: impl Fn(usize, u32)) {
    let begun = Instant::now();
    let mut next = vec![0_u32; lessons.number];
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let now_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
        for (number, next) in next.iter_mut().enumerate() {
            let offset = lessons.begin_within_us * number as u64 / lessons.number as u64;
            if now_us >= offset + u64::from(*next) * PICTURE_US {
                make(number, *next);
                *next += 1;
            }
        }
    }
}

async fn subscribe(hub: &Hub, class: &str) -> hub::Subscription {
    let mut changes = hub.changes();
    loop {
        if let Some(subscription) = hub.subscribe(class) {
            return subscription;
        }
        changes.next().await;
    }
}

/// From the wish for a lesson to its first picture, at nodes that have neither it nor a connection.
fn first_pictures() -> Vec<Duration> {
    let (origin, edge) = (Side::start(), Side::start());
    let authority = Arc::new(Authority::new());
    let (hub, link) = node(&origin, &authority, "origin");
    let address = link.local_addr().unwrap();
    origin.run(async move {
        let publisher = hub.publish(&class(0), "s", 1).unwrap();
        publisher.set_tracks(&tracks()).unwrap();
        let alone = Lessons { number: 1, begin_within_us: 0 };
        tokio::spawn(teach(alone, move |_, index| _ = publisher.push(picture(index))));
    });
    std::thread::sleep(WARM_UP);
    let cold = |number: usize| {
        let name = format!("edge-{number}").leak();
        let (hub, link) = node(&edge, &authority, name);
        edge.run(async move {
            let wanted = Instant::now();
            tokio::spawn(async move { link.pull(&class(0), "origin", address).await.unwrap().run().await });
            let mut subscription = subscribe(&hub, &class(0)).await;
            while let Some(update) = subscription.next().await {
                if matches!(&update, Update::Frame(item) if item.frame.is_keyframe()) {
                    break;
                }
            }
            wanted.elapsed()
        })
    };
    (0..COLD).map(cold).collect()
}
