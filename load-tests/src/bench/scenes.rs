//! The scenes, each with the rows that it leads to.
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;

use super::scene::{Lesson, Place, Scene, number};
use super::tokens::tokens;
use super::{Row, with_unit};
use crate::report::figure;

/// How long a steady state is looked at.
const STEADY: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(5);
/// Viewers for whom the cost of a packet is measured: the target.
const VIEWERS: u64 = 3_800;
/// Viewers of a node that pulls.
const EDGE_VIEWERS: u64 = 600;
/// Of the limit, as many viewers as are to be carried.
const SHARE: f64 = 0.85;
/// How fast viewers are let in where joins are not what is measured.
const RATE: u64 = 500;
/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_secs(1);
/// Looks before the memory is expected to be flat.
const SETTLED_AFTER: usize = 20;
/// Looks at the end, when the last viewers only leave.
const LEAVING: usize = 12;

type Rows = anyhow::Result<Vec<Row>>;
type Playing<'a> = Pin<Box<dyn Future<Output = Rows> + 'a>>;
type Play = for<'a> fn(&'a Place) -> Playing<'a>;

/// All of them: name, cores at the least, and what happens. Thousands of viewers take two cores beside the server's, or
/// they measure themselves.
pub(super) const ALL: [(&str, usize, Play); 11] = [
    ("capacity", 3, |place| Box::pin(capacity(place))),
    ("curve", 3, |place| Box::pin(curve(place))),
    ("shards", 3, |place| Box::pin(shards(place))),
    ("storm", 2, |place| Box::pin(storm(place))),
    ("delay", 2, |place| Box::pin(delay(place))),
    ("keyframe", 3, |place| Box::pin(keyframe(place))),
    ("loss", 2, |place| Box::pin(loss(place))),
    ("churn", 2, |place| Box::pin(churn(place))),
    ("hostile", 2, |place| Box::pin(hostile(place))),
    ("edge", 2, |place| Box::pin(edge(place))),
    ("tokens", 2, |place| Box::pin(tokens(place))),
];

/// What one core carries, and what it costs.
async fn capacity(place: &Place) -> Rows {
    let limit = place.measure(&format!("limit --core {} --payload 1160", place.server_core()), &[]).await?;
    let most = number(&limit, "/both_read/viewers_per_core");
    let mut rows = vec![Row::new(
        "limit: AES-128-GCM, sendmmsg(16), GSO x4",
        format!(
            "{} viewers, {}",
            figure(most.floor()),
            with_unit(number(&limit, "/both_read/us_per_packet"), "µs per packet")
        ),
        "",
        true,
    )];
    let scene = place.set(1, Lesson::Pictures).await?;
    let empty = scene.usage()?.rss_bytes;
    let (_, steady) =
        scene.view_steadily(&format!("watch --viewers {VIEWERS} --rate {RATE}"), STEADY).await?;
    let us = steady.us_per_packet();
    rows.push(Row::new("CPU per packet", with_unit(us, "µs"), "2.0", us <= 2.0));
    let kib = f64_of(steady.rss_bytes.saturating_sub(empty)) / f64_of(VIEWERS) / 1024.0;
    rows.push(Row::new("RSS per viewer", with_unit(kib, "KiB"), "100", kib <= 100.0));
    drop(scene);
    let wanted = (most * SHARE).ceil();
    let scene = place.set(1, Lesson::Pictures).await?;
    let (figures, steady) =
        scene.view_steadily(&format!("watch --viewers {wanted} --rate {RATE}"), STEADY).await?;
    let (lost, freezes) = (number(&figures, "/viewers/video/missed"), number(&figures, "/viewers/freezes"));
    let connected = number(&figures, "/viewers/connected");
    let is_carried = lost == 0.0 && freezes == 0.0 && connected >= wanted;
    let share = steady.cpu.as_secs_f64() / STEADY.as_secs_f64() * 100.0;
    rows.push(Row::new(
        "viewers sustained on one core",
        format!(
            "{}, which is {} % of the limit: {} packets lost, {} freezes, {} % of the core; more were not tried",
            figure(connected),
            figure(connected / most * 100.0),
            figure(lost),
            figure(freezes),
            figure(share)
        ),
        "3,800, 85 %",
        is_carried && connected >= f64_of(VIEWERS),
    ));
    Ok(rows)
}

/// How the cost grows with the viewers.
async fn curve(place: &Place) -> Rows {
    let mut points = vec![[0.0, 0.0]];
    for viewers in [500, 1000, 2000, 3000, 4000] {
        let scene = place.set(1, Lesson::Pictures).await?;
        let (_, steady) =
            scene.view_steadily(&format!("watch --viewers {viewers} --rate {RATE}"), SHORT).await?;
        points.push([f64::from(viewers), steady.cpu.as_secs_f64() / SHORT.as_secs_f64() * 100.0]);
    }
    let text: Vec<String> = points
        .iter()
        .skip(1)
        .map(|[viewers, percent]| format!("{}: {} %", figure(*viewers), figure(*percent)))
        .collect();
    place.draw(
        "viewers-cpu.svg",
        json!({
            "title": "CPU of one node, 128 packets per second and viewer", "x": "viewers", "y": "% of a core",
            "lines": [{ "name": "lectern", "points": points }],
        }),
    )?;
    Ok(vec![Row::new("CPU by viewers", text.join(", "), "", true)])
}

/// What two shards on two cores cost, beside one on one.
async fn shards(place: &Place) -> Rows {
    let mut us = Vec::new();
    for shards in [1, 2] {
        let scene = place.set(shards, Lesson::Pictures).await?;
        let viewers = 1500 * shards;
        let (_, steady) =
            scene.view_steadily(&format!("watch --viewers {viewers} --rate {RATE}"), STEADY).await?;
        us.push(steady.us_per_packet());
    }
    let (one, two) = (us.first().copied().unwrap_or(0.0), us.last().copied().unwrap_or(1.0));
    let times = 2.0 * one / two;
    Ok(vec![Row::new(
        "two shards on two cores, by CPU per packet",
        format!("{} x one ({} and {} µs)", figure(times), figure(one), figure(two)),
        "1.8 x",
        times >= 1.8,
    )])
}

/// A school comes in while a thousand watch.
async fn storm(place: &Place) -> Rows {
    let mut rows = Vec::new();
    // A stream of them, and all at once.
    for (joiners, within_s) in [(3_600_u32, 4), (2_000, 0)] {
        let scene = place.set(1, Lesson::Pictures).await?;
        let figures = scene
            .view(&format!(
                "storm --watchers 1000 --viewers {joiners} --within {within_s}s --duration 5s --posts 256 \
                 --decrypt-every 200 --no-arrivals"
            ))
            .await?;
        let (connected, seconds) =
            (number(&figures, "/joiners/connected"), number(&figures, "/joining_seconds"));
        let p99 = number(&figures, "/joiners/post_to_dtls_ms/p99");
        let lost = number(&figures, "/viewers/video/missed");
        let (name, said, target, is_met) = if within_s > 0 {
            let rate = connected / seconds.max(0.001);
            let offered = f64::from(joiners) / f64::from(within_s);
            let said =
                format!("{} of {} offered, p99 {}", figure(rate), figure(offered), with_unit(p99, "ms"));
            ("joins per second and core, 1,000 watching", said, "800", rate >= 800.0)
        } else {
            let said = format!("{} in {seconds:.2} s, p99 {}", figure(connected), with_unit(p99, "ms"));
            ("2,000 at once, 1,000 watching: all in", said, "2 s", seconds <= 2.0)
        };
        rows.push(Row::new(name, said, target, is_met && connected >= f64::from(joiners)));
        rows.push(Row::new("packets lost by the 1,000 meanwhile", figure(lost), "0", lost == 0.0));
    }
    Ok(rows)
}

/// What the server adds with a thousand viewers.
async fn delay(place: &Place) -> Rows {
    let scene = place.set(1, Lesson::WithSound).await?;
    let (figures, steady) = scene
        .view_steadily(&format!("watch --viewers 1000 --rate {RATE} --decrypt-every 10"), STEADY)
        .await?;
    let quantile = |quantile| {
        let name = "lectern_rtc_forward_delay_seconds";
        steady.after.quantile_ms(&steady.before, name, "track=\"video\"", quantile)
    };
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    let upper = |ms: Option<f64>| ms.map_or("beyond all".to_owned(), |ms| format!("<= {} ms", figure(ms)));
    place.draw(
        "delay.svg",
        json!({
            "title": "From the publisher to a decrypted picture, 1,000 viewers", "x": "delay (ms)", "y": "pictures",
            "bars": figures["viewers"]["delay_ms"]["bars"],
        }),
    )?;
    let seen = |quantile: &str| number(&figures, &format!("/viewers/delay_ms/{quantile}"));
    Ok(vec![
        Row::new(
            "picture in to all 1,000 sent, p50, p99",
            format!("{}, {}", upper(p50), upper(p99)),
            "0.5, 3 ms",
            p50.is_some_and(|ms| ms <= 0.5) && p99.is_some_and(|ms| ms <= 3.0),
        ),
        Row::new(
            "publisher to decrypted at the viewer, p50, p99",
            format!("{}, {}", with_unit(seen("p50"), "ms"), with_unit(seen("p99"), "ms")),
            "",
            true,
        ),
    ])
}

/// A keyframe of 40 packets to 2,000 viewers, and the sound meanwhile.
async fn keyframe(place: &Place) -> Rows {
    let scene = place.set(1, Lesson::WithSound).await?;
    let (figures, steady) = scene
        .view_steadily(&format!("watch --viewers 2000 --rate {RATE} --decrypt-every 10"), STEADY)
        .await?;
    let last = number(&figures, "/viewers/keyframe_delay_ms/max");
    let middle = number(&figures, "/viewers/keyframe_delay_ms/p50");
    let name = "lectern_rtc_forward_delay_seconds";
    let sound = steady.after.quantile_ms(&steady.before, name, "track=\"audio\"", 0.99);
    Ok(vec![
        Row::new(
            "keyframe of 40 packets to 2,000: last viewer",
            format!("{} (median {})", with_unit(last, "ms"), with_unit(middle, "ms")),
            "60 ms",
            last > 0.0 && last <= 60.0,
        ),
        Row::new(
            "sound in to all 2,000 sent meanwhile, p99",
            sound.map_or("beyond all".to_owned(), |ms| format!("<= {} ms", figure(ms))),
            "10 ms",
            sound.is_some_and(|ms| ms <= 10.0),
        ),
    ])
}

/// A bad network in both directions.
async fn loss(place: &Place) -> Rows {
    let scene = place.set(1, Lesson::WithSound).await?;
    let figures = scene
        .view("watch --viewers 50 --rate 50 --decrypt-every 1 --loss 3 --delay 50 --duration 20s")
        .await?;
    let (complete, damaged) =
        (number(&figures, "/viewers/units_complete"), number(&figures, "/viewers/units_damaged"));
    let share = complete / (complete + damaged).max(1.0) * 100.0;
    Ok(vec![Row::new(
        "3 % lost, 100 ms there and back: whole pictures",
        format!(
            "{share:.3} % of {}; {} of {} lost packets healed",
            figure(complete + damaged),
            figure(number(&figures, "/viewers/video/healed")),
            figure(number(&figures, "/viewers/video/missed"))
        ),
        "99.5 %",
        share >= 99.5,
    )])
}

/// 500 viewers who come and go.
async fn churn(place: &Place) -> Rows {
    let scene = place.set(1, Lesson::WithSound).await?;
    let seconds = place.churn_seconds;
    let what = format!("churn --viewers 500 --rate 50 --stay 9s --duration {seconds}s");
    let mut looks = Vec::new();
    let observe = async {
        loop {
            tokio::time::sleep(LOOK).await;
            looks.push(scene.usage()?.rss_bytes);
        }
    };
    let figures = tokio::select! {
        figures = scene.view(&what) => figures?,
        never = observe => return never,
    };
    let settled: Vec<u64> = looks
        .iter()
        .copied()
        .skip(SETTLED_AFTER)
        .take(looks.len().saturating_sub(SETTLED_AFTER + LEAVING))
        .collect();
    let (least, most) = (settled.iter().min().copied(), settled.iter().max().copied());
    let (least, most) = (f64_of(least.unwrap_or(0)), f64_of(most.unwrap_or(u64::MAX)));
    let grown = (most / least - 1.0) * 100.0;
    Ok(vec![Row::new(
        "RSS while 500 viewers come and go",
        format!(
            "{} to {} MiB, {} % apart, over {seconds} s and {} joins",
            figure(least / 1_048_576.0),
            figure(most / 1_048_576.0),
            figure(grown),
            figure(number(&figures, "/viewers/connected"))
        ),
        "5 %",
        grown <= 5.0,
    )])
}

/// Viewers that mean ill, beside 200 that do not.
async fn hostile(place: &Place) -> Rows {
    let mut rows = Vec::new();
    for (figure_of, how, count) in [
        ("effect of 20 that stop reading on 200", "stop-reading", 20),
        ("effect of 100 that send garbage on 200", "garbage", 100),
        ("effect of 20 that flood with NACKs on 200", "nack-flood", 20),
    ] {
        let scene = place.set(1, Lesson::WithSound).await?;
        rows.push(mischief(&scene, figure_of, how, count).await?);
    }
    Ok(rows)
}

async fn mischief(scene: &Scene<'_>, name: &'static str, how: &str, count: u32) -> anyhow::Result<Row> {
    let what = format!(
        "watch --viewers 200 --misbehave {how} --misbehaving {count} --decrypt-every 4 --duration 8s"
    );
    let figures = scene.view(&what).await?;
    let lost = number(&figures, "/viewers/video/missed");
    let damaged = number(&figures, "/viewers/units_damaged");
    let freezes = number(&figures, "/viewers/freezes");
    let connected = number(&figures, "/viewers/connected");
    Ok(Row::new(
        name,
        format!("{} lost, {} damaged, {} freezes", figure(lost), figure(damaged), figure(freezes)),
        "none",
        lost == 0.0 && damaged == 0.0 && freezes == 0.0 && connected >= 200.0,
    ))
}

#[expect(clippy::cast_precision_loss, reason = "for people; counts far below 2^52")]
fn f64_of(value: u64) -> f64 {
    value as f64
}

/// A node that pulls the stream, beside one that is published to.
async fn edge(place: &Place) -> Rows {
    let mut found = Vec::new();
    for is_pulled in [false, true] {
        let set = async || match is_pulled {
            true => place.set_pulling(Lesson::WithSound).await,
            false => place.set(1, Lesson::WithSound).await,
        };
        let many = format!("watch --viewers {EDGE_VIEWERS} --rate 200");
        let (figures, steady) = set().await?.view_steadily(&many, STEADY).await?;
        let lost = number(&figures, "/viewers/video/missed");
        let few = set().await?.view("watch --viewers 5 --rate 50 --decrypt-every 1 --duration 20s").await?;
        let delay = |quantile: &str| number(&few, &format!("/viewers/delay_ms/{quantile}"));
        found.push((steady.us_per_packet(), lost, delay("p50"), delay("p99")));
    }
    let [(direct, _, p50, p99), (pulled, lost, far_p50, far_p99)] = found[..] else { return Ok(Vec::new()) };
    Ok(vec![
        Row::new(
            "CPU per packet of a node that pulls, 600 viewers; of one that is published to",
            format!(
                "{}, {}; {} packets lost",
                with_unit(pulled, "µs"),
                with_unit(direct, "µs"),
                figure(lost)
            ),
            "",
            lost == 0.0,
        ),
        Row::new(
            "publisher to decrypted through two nodes, p50, p99; through one",
            format!(
                "{}, {}; {}, {}",
                with_unit(far_p50, "ms"),
                with_unit(far_p99, "ms"),
                with_unit(p50, "ms"),
                with_unit(p99, "ms")
            ),
            "2 ms more",
            far_p99 - p99 <= 2.0,
        ),
    ])
}
