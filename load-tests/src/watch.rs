//! Viewers: joining, watching, leaving, and what they measured.
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch as channel};
use tokio::task::JoinSet;

mod answer;
mod arrivals;
mod dtls;
mod dtls_sha1;
mod follow;
mod ice;
mod join;
mod link;
mod media;
mod misbehaviour;
mod offer;
pub(crate) mod options;
mod orders;
mod person;
mod pictures;
mod playback;
mod reception;
mod report;
mod rtcp;
mod rtp;
mod second_opinion;
mod smoothness;
mod socket;
mod srtp;
mod stamp;
mod stream;
mod totals;
mod viewer;
mod worker;

use dtls::Identity;
use join::{Entrance, Newcomer};
use options::{Churn, Common, Storm, Watch};
use orders::{Gauge, Group, Order, Outcome};
use person::People;
use report::{Progress, Report};
use worker::Handle;

/// Threads of tokio, which do HTTP only.
const HTTP_THREADS: usize = 2;
/// How long a viewer may take to be in or to have failed, after the last one was let go.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often that is looked at.
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);
/// How long DELETEs at the end may take together.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Files beside the sockets of viewers: connections of HTTP, polls, the terminal.
const FILES_BESIDE: u64 = 512;
/// Between the last watcher's join and the storm, for their first pictures.
const CALM: Duration = Duration::from_secs(3);

/// Viewers join and watch.
pub(crate) fn watch(options: &Watch) -> Result<()> {
    let common = &options.common;
    run("watch", common, options.viewers + options.misbehaving, async |run: &mut Run| {
        let decent = (0..options.viewers).map(|number| Newcomer {
            number,
            group: Group::Viewers,
            misbehaviour: None,
            stay: None,
        });
        run.admit(decent, options.rate).await;
        run.settle().await;
        let others = (options.viewers..options.viewers + options.misbehaving).map(|number| Newcomer {
            number,
            group: Group::Misbehaving,
            misbehaviour: options.misbehave,
            stay: None,
        });
        run.admit(others, options.rate).await;
        run.settle().await;
        run.say_ready(common)?;
        tokio::select! {
            () = tokio::time::sleep(options.duration) => {}
            _ = run.last_call.recv() => run.everybody_back().await,
        }
        Ok(())
    })
}

/// Viewers come and go.
pub(crate) fn churn(options: &Churn) -> Result<()> {
    run("churn", &options.common, options.viewers, async |run: &mut Run| {
        let places = Arc::new(Semaphore::new(usize::try_from(options.viewers)?));
        let mut ticks = ticks(options.rate);
        let end = tokio::time::Instant::now() + options.duration;
        let mut number = 0;
        let is_asked = loop {
            tokio::select! {
                now = ticks.tick() => if now >= end { break false },
                _ = run.last_call.recv() => break true,
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                run.turned_away += 1;
                continue;
            };
            let newcomer =
                Newcomer { number, group: Group::Viewers, misbehaviour: None, stay: Some(options.stay) };
            let attend = Arc::clone(&run.entrance).attend(newcomer, run.end.subscribe());
            run.admitted += 1;
            run.tasks.spawn(async move {
                attend.await;
                drop(place);
            });
            // Those who have gone leave nothing behind.
            while run.tasks.try_join_next().is_some() {}
            number += 1;
        };
        run.settle().await;
        if is_asked {
            // The last ones stay as long as all before them.
            tokio::time::sleep(options.stay).await;
        }
        run.say_ready(&options.common)
    })
}

/// Many join while others watch.
pub(crate) fn storm(options: &Storm) -> Result<()> {
    let all = options.watchers + options.viewers;
    run("storm", &options.common, all, async |run: &mut Run| {
        let newcomer = |group| move |number| Newcomer { number, group, misbehaviour: None, stay: None };
        run.admit((0..options.watchers).map(newcomer(Group::Viewers)), None).await;
        run.settle().await;
        run.say_ready(&options.common)?;
        tokio::time::sleep(CALM).await;
        run.order(|| Order::Window { is_open: true });
        run.began = Instant::now();
        let rate = f64::from(u32::try_from(options.viewers)?) / options.within.as_secs_f64().max(0.001);
        run.admit((options.watchers..all).map(newcomer(Group::Joiners)), Some(rate)).await;
        run.settle().await;
        run.order(|| Order::Window { is_open: false });
        tokio::time::sleep(options.duration).await;
        Ok(())
    })
}

/// A run under way.
#[derive(Debug)]
struct Run {
    entrance: Arc<Entrance>,
    handles: Vec<Handle>,
    tasks: JoinSet<()>,
    /// SIGUSR2: whoever runs us wants the end as soon as nothing is open.
    last_call: Signal,
    end: channel::Sender<bool>,
    admitted: u64,
    turned_away: u64,
    began: Instant,
    /// From the first join to the last viewer being in, or having failed.
    joining: Duration,
}

fn run(
    command: &'static str,
    common: &Common,
    viewers: u64,
    body: impl AsyncFnOnce(&mut Run) -> Result<()>,
) -> Result<()> {
    let files = socket::raise_open_files();
    ensure!(
        viewers + FILES_BESIDE <= files,
        "{viewers} viewers need as many sockets, and {files} files may be open here (ulimit -n)"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .enable_all()
        .build()
        .context("starting tokio")?;
    let began = Instant::now();
    let mut run = Run::start(common, &runtime)?;
    let progress = Progress::new(&run.entrance, run.handles.iter().map(|handle| Arc::clone(&handle.gauge)));
    let progress = runtime.spawn(progress.show());
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = body(&mut run) => outcome,
            // Whoever is impatient still gets the table.
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    progress.abort();
    let report = run.finish(command, began, &runtime);
    runtime.shutdown_background();
    outcome?;
    report.write(common.json.as_deref())?;
    ensure!(report.connected() > 0, "no viewer got in");
    Ok(())
}

impl Run {
    fn start(common: &Common, runtime: &Runtime) -> Result<Self> {
        let access = common.access()?;
        let from = common.from()?;
        let identity = Arc::new(Identity::generate(common.sha1).context("making a certificate")?);
        let quality = common.quality()?;
        let handles: Vec<Handle> = (0..common.threads)
            .map(|number| Handle::start(number, Arc::clone(&identity), quality))
            .collect::<std::io::Result<_>>()
            .context("starting the viewers' threads")?;
        let (door, mut anew, last_call) = {
            let _guard = runtime.enter();
            let door = crate::whep::Door::new(access, &from).context("setting up HTTP")?;
            (door, signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?)
        };
        let entrance = Entrance {
            door,
            identity,
            orders: handles.iter().map(Handle::orders).collect(),
            from,
            local: local_address(common.server()),
            decrypt_every: common.decrypt_every,
            client: common.client,
            reports_arrivals: !common.no_arrivals,
            follows: common.follow,
            people: People::default(),
            seats: AtomicUsize::new(0),
            places: Semaphore::new(usize::try_from(common.posts)?),
            totals: Mutex::default(),
            joined: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            crate_connected: AtomicU64::new(0),
        };
        let entrance = Arc::new(entrance);
        let told = Arc::clone(&entrance);
        // It ends with the run.
        runtime.spawn(async move {
            while anew.recv().await.is_some() {
                told.people.begin_anew();
            }
        });
        Ok(Self {
            entrance,
            handles,
            tasks: JoinSet::new(),
            last_call,
            end: channel::Sender::new(false),
            admitted: 0,
            turned_away: 0,
            began: Instant::now(),
            joining: Duration::ZERO,
        })
    }

    /// Lets viewers join, all at once or so many a second.
    async fn admit(&mut self, newcomers: impl Iterator<Item = Newcomer>, rate: Option<f64>) {
        let mut ticks = rate.map(ticks);
        for newcomer in newcomers {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            self.admitted += 1;
            self.tasks.spawn(Arc::clone(&self.entrance).attend(newcomer, self.end.subscribe()));
        }
    }

    /// Waits until everybody is in or has failed.
    async fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while self.settled() < self.admitted && Instant::now() < deadline {
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        self.joining = self.began.elapsed();
    }

    /// Waits until everybody plays, or will not.
    async fn everybody_back(&self) {
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, self.entrance.people.are_back()).await;
    }

    fn settled(&self) -> u64 {
        let of = |gauge: &Gauge| gauge.ever_connected.load(Relaxed) + gauge.failed.load(Relaxed);
        let threads: u64 = self.handles.iter().map(|handle| of(&handle.gauge)).sum();
        threads + self.entrance.failed.load(Relaxed) + self.entrance.crate_connected.load(Relaxed)
    }

    fn order(&self, order: impl Fn() -> Order) {
        self.entrance.orders.iter().for_each(|orders| orders.give(order()));
    }

    fn say_ready(&self, common: &Common) -> Result<()> {
        let Some(path) = &common.ready_file else { return Ok(()) };
        let failed = self.entrance.failed.load(Relaxed);
        let ready = serde_json::json!({"viewers": self.admitted, "failed": failed});
        std::fs::write(path, ready.to_string()).with_context(|| format!("writing {}", path.display()))
    }

    /// Ends all viewers, then tells the server.
    fn finish(mut self, command: &'static str, began: Instant, runtime: &Runtime) -> Report {
        let time = began.elapsed();
        // Nobody sees anything once the threads have ended.
        let people = self.entrance.people.rounds();
        let outcomes: Vec<Outcome> = self.handles.into_iter().map(Handle::stop).collect();
        self.end.send_replace(true);
        let left = runtime.block_on(async {
            tokio::time::timeout(LEAVE_TIMEOUT, async { while self.tasks.join_next().await.is_some() {} })
                .await
        });
        let mut report = Report {
            command,
            time,
            joining: self.joining,
            admitted: self.admitted,
            turned_away: self.turned_away,
            has_left: left.is_ok(),
            cpu_us: socket::cpu_time_us(),
            ..Report::default()
        };
        self.entrance.record(Group::Viewers, |totals| {
            for (round, is_back) in &people {
                totals.person_longest_gap_ms.record_time(round.longest_gap);
                totals.not_back += u64::from(!is_back);
            }
        });
        report.people = people;
        report.add_groups(&self.entrance.totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for outcome in &outcomes {
            report.add(outcome);
        }
        report
    }
}

fn ticks(rate: f64) -> tokio::time::Interval {
    /// A rate above this is "at once".
    const RATE_MAX: f64 = 100_000.0;
    const RATE_MIN: f64 = 0.001;
    tokio::time::interval(Duration::from_secs_f64(1.0 / rate.clamp(RATE_MIN, RATE_MAX)))
}

/// The address of ours that packets to the server carry; nothing is sent to find out.
fn local_address(server: Option<&str>) -> IpAddr {
    let find = || {
        let url = reqwest::Url::parse(server?).ok()?;
        let port = url.port_or_known_default()?;
        // A host in brackets is an IPv6 address, which the resolver wants without them.
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let to = (host, port).to_socket_addrs().ok()?.next()?;
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    find().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}
