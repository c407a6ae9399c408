//! What happens to a cluster while people watch.
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};

use super::cluster::{COORDINATORS, Cluster, wait};
use crate::interrupt;

/// The node that the teacher publishes to first; small classes are sent elsewhere as often as here.
pub(super) const ORIGIN: &str = "a";
const OTHERS: [&str; 3] = ["b", "c", "d"];
/// Nodes of a cluster that grows from two, and those of them that leave it afterwards.
const GROWN: [&str; 4] = ["c", "d", "e", "f"];
const LEAVING: [&str; 3] = ["b", "e", "f"];
/// What a phone takes to notice that its node is gone and to publish to another.
const PHONE: Duration = Duration::from_millis(1500);

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// A node with viewers drains.
    Drain,
    /// A node with viewers is killed.
    KillNode,
    /// The node that the teacher publishes to is killed; he publishes to another 1.5 s later.
    KillIngest,
    /// The teacher publishes to another node.
    PhoneMoves,
    /// The first coordinator is killed and comes back.
    KillFirst,
    /// The second one is.
    KillSecond,
    /// PostgreSQL is killed and comes back; meanwhile the teacher's phone goes to another node.
    Database,
    /// A node with viewers hears nothing of the coordinators for a time, which hear it.
    DeafNode,
    /// The coordinators hear nothing of a node with viewers for a time, which hears them.
    MuteNode,
    /// A node with viewers hears nothing of the node that the teacher publishes to, for a time.
    DeafLink,
    /// That node hears nothing of a node with viewers.
    MuteLink,
    /// The node that the teacher publishes to and the coordinators hear nothing of each other for a time. Meanwhile he publishes to
    /// another, while his old connection is still open.
    OldNode,
    /// Three nodes are drained and started again, one after the other.
    RollingRestart,
    /// Four nodes come to a cluster of two, and then three leave it.
    Scale,
}

/// Whom a fault concerns, and what else there is to say.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The WHEP addresses of the nodes whose viewers are concerned; of none if all are.
    pub(super) there: Vec<String>,
    /// How long a node took at most to drain.
    pub(super) drained: Option<Duration>,
    /// From the end of a cut to the moment at which the old publisher was sent away.
    pub(super) yielded: Option<Duration>,
}

/// How long things are away, and how many times over a target may be missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) away: Duration,
    pub(super) database_away: Duration,
    pub(super) patience: u32,
}

/// What nobody should notice more of than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The longest time without a picture, of 95 in 100 and of all.
    pub(super) p95: Duration,
    pub(super) max: Duration,
    /// Whether everybody keeps the session.
    pub(super) stays: bool,
}

impl Fault {
    pub(super) const ALL: [Self; 14] = [
        Self::Drain,
        Self::KillNode,
        Self::KillIngest,
        Self::PhoneMoves,
        Self::KillFirst,
        Self::KillSecond,
        Self::Database,
        Self::DeafNode,
        Self::MuteNode,
        Self::DeafLink,
        Self::MuteLink,
        Self::OldNode,
        Self::RollingRestart,
        Self::Scale,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drain => "a node drains",
            Self::KillNode => "a viewers' node is killed",
            Self::KillIngest => "the publisher's node is killed",
            Self::PhoneMoves => "the publisher moves",
            Self::KillFirst => "the first coordinator is away",
            Self::KillSecond => "the second coordinator is away",
            Self::Database => "the database is away, the publisher moves",
            Self::DeafNode => "a viewers' node does not hear the coordinators",
            Self::MuteNode => "the coordinators do not hear a viewers' node",
            Self::DeafLink => "a viewers' node does not hear the publisher's",
            Self::MuteLink => "the publisher's node does not hear a viewers'",
            Self::OldNode => "the publisher's node is cut off, he moves",
            Self::RollingRestart => "three nodes are restarted",
            Self::Scale => "2 nodes, 6, 3",
        }
    }

    /// The nodes that there are before.
    pub(super) fn nodes(self) -> &'static [&'static str] {
        match self {
            Self::Scale => &[ORIGIN, "b"],
            _ => &[ORIGIN, "b", "c", "d"],
        }
    }

    pub(super) fn target(self) -> Target {
        let unnoticed =
            Target { p95: Duration::from_millis(300), max: Duration::from_millis(300), stays: true };
        let back = Target { p95: Duration::from_secs(5), max: Duration::from_secs(10), stays: false };
        match self {
            Self::Drain | Self::RollingRestart | Self::Scale => Target { stays: false, ..unnoticed },
            Self::KillNode | Self::KillIngest => back,
            Self::PhoneMoves | Self::Database | Self::OldNode => Target { stays: true, ..back },
            Self::KillFirst | Self::KillSecond | Self::DeafNode | Self::MuteNode => unnoticed,
            // The stream comes to them by another node.
            Self::DeafLink | Self::MuteLink => Target { stays: true, ..back },
        }
    }

    /// Lets it happen, to the node of this address where it can be, or else to one with many viewers.
    pub(super) fn happen(
        self,
        cluster: &mut Cluster<'_>,
        wanted: Option<&str>,
        terms: Terms,
    ) -> anyhow::Result<Course> {
        let viewers = cluster.viewers()?;
        let of = |name: &str| (wanted == Some(cluster.whep(name)), viewers.get(name));
        let others = OTHERS.into_iter().filter(|name| viewers.contains_key(*name));
        let busiest = others.max_by_key(|name| of(name)).context("there are no other nodes")?;
        let at = |cluster: &Cluster<'_>, names: &[&str]| Course {
            there: names.iter().map(|name| cluster.whep(name).to_owned()).collect(),
            ..Course::default()
        };
        // Where a teacher goes who moves: not to Chromium, which is to be behind a relay.
        let others = OTHERS.into_iter().filter(|name| viewers.contains_key(*name));
        let far =
            others.filter(|name| wanted != Some(cluster.whep(name))).max_by_key(|name| viewers.get(*name));
        let far = far.unwrap_or(busiest);
        let mut course = at(cluster, &[busiest]);
        match self {
            Self::Drain => course.drained = Some(cluster.drain(busiest)?),
            Self::KillNode => cluster.kill_node(busiest)?,
            Self::KillIngest => {
                course = Course::default();
                cluster.kill_node(ORIGIN)?;
                pause(PHONE)?;
                cluster.publish(far)?;
            }
            Self::PhoneMoves => {
                course = Course::default();
                cluster.publish(far)?;
            }
            Self::KillFirst | Self::KillSecond => {
                course = Course::default();
                let [first, second] = COORDINATORS;
                let name = if self == Self::KillFirst { first } else { second };
                cluster.kill_coordinator(name)?;
                pause(terms.away)?;
                cluster.start_coordinator(name)?;
            }
            Self::Database => {
                course = Course::default();
                cluster.lab.database.kill();
                pause(terms.database_away / 3)?;
                cluster.publish(far)?;
                pause(terms.database_away - terms.database_away / 3)?;
                cluster.lab.database.start_again()?;
                cluster.wait_for_health()?;
            }
            Self::DeafNode => cut(cluster, &COORDINATORS.map(|name| (name, busiest)), terms)?,
            Self::MuteNode => cut(cluster, &COORDINATORS.map(|name| (busiest, name)), terms)?,
            Self::DeafLink => cut(cluster, &[(ORIGIN, busiest)], terms)?,
            Self::MuteLink => cut(cluster, &[(busiest, ORIGIN)], terms)?,
            Self::OldNode => {
                course = Course::default();
                course.yielded = Some(leave_old_node(cluster, far, terms)?);
            }
            Self::RollingRestart => {
                course = at(cluster, &OTHERS);
                for name in OTHERS {
                    course.drained = course.drained.max(Some(cluster.drain(name)?));
                    cluster.start_nodes(&[name])?;
                }
            }
            Self::Scale => {
                course = at(cluster, &["b"]);
                cluster.start_nodes(&GROWN)?;
                for name in LEAVING {
                    course.drained = course.drained.max(Some(cluster.drain(name)?));
                }
            }
        }
        Ok(course)
    }
}

/// For a time nothing comes from the first of each pair to the second.
fn cut(cluster: &Cluster<'_>, pairs: &[(&str, &str)], terms: Terms) -> anyhow::Result<()> {
    pairs.iter().try_for_each(|(from, to)| cluster.lab.network.cut(from, to))?;
    pause(terms.away)?;
    cluster.lab.network.heal()
}

/// The old node knows nothing of the new publisher until the cut is over. Returns how long it took from there.
fn leave_old_node(cluster: &mut Cluster<'_>, to: &str, terms: Terms) -> anyhow::Result<Duration> {
    for name in COORDINATORS {
        cluster.lab.network.cut(ORIGIN, name)?;
        cluster.lab.network.cut(name, ORIGIN)?;
    }
    pause(terms.away / 2)?;
    let mut old = cluster.publish_beside(to)?.context("nobody published")?;
    pause(terms.away / 2)?;
    ensure!(old.status()?.is_none(), "the old publisher was sent away by nobody knows whom");
    cluster.lab.network.heal()?;
    let healed = Instant::now();
    wait("the old publisher being sent away", || Ok(old.status()?))?;
    Ok(healed.elapsed())
}

fn pause(time: Duration) -> anyhow::Result<()> {
    interrupt::sleep_until(SystemTime::now() + time)
}
