//! The command line of viewers.
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::link::Quality;
use super::misbehaviour::Misbehaviour;
use crate::whep::Access;

/// Threads that hold viewers; more than a large machine has cores help nobody.
const THREADS_MAX: u64 = 256;

/// Whose WebRTC the viewers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// The lean one of this program, for thousands.
    Own,
    /// The `webrtc` crate, for a few: a second opinion.
    Webrtc,
}

/// Where viewers go and what they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The WHEP endpoint; may be left out when the answer of --token-url names it
    #[arg(long, value_name = "URL")]
    whep: Option<String>,
    /// A Bearer token. An n in braces, here and in the other texts, is replaced by the viewer's number
    #[arg(long, value_name = "TEXT")]
    token: Option<String>,
    /// POST here first, and take `token` and `webrtc_url` from the JSON answer
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// A header for every request
    #[arg(long, value_name = "K: V")]
    header: Vec<String>,
    /// Addresses of this machine that viewers come from in turn, such as 127.0.0.2-127.0.0.50
    #[arg(long, value_name = "IP[-IP]", value_delimiter = ',')]
    from: Vec<String>,
    /// Threads that hold viewers
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=THREADS_MAX))]
    pub(super) threads: u64,
    /// POSTs under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(super) posts: u64,
    /// Further tries while nobody publishes yet, the server has too much to do (409, 425, 429, 503), or nobody answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// One viewer in K decrypts and checks everything; the others look at RTP headers
    #[arg(long, value_name = "K", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) decrypt_every: u64,
    /// Datagrams that a test link loses, in both directions
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// One way delay of the test link, in both directions
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Seed of the test link
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Offer SRTP with HMAC-SHA1-80 only, as old clients do
    #[arg(long)]
    pub(super) sha1: bool,
    /// Offer no reports of arrivals, which cost this program as much as they cost the server
    #[arg(long)]
    pub(super) no_arrivals: bool,
    /// Go where a server sends viewers when its node drains, and ask for another node when one is gone. SIGUSR1 lets what
    /// people see count anew; SIGUSR2 ends `watch` once everybody has pictures, and lets nobody in any more with `churn`
    #[arg(long, requires = "token_url", conflicts_with = "whep")]
    pub(super) follow: bool,
    /// Whose WebRTC
    #[arg(long, value_enum, default_value_t = Client::Own)]
    pub(super) client: Client,
    /// Write every figure into this file
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write this file once all viewers are in, or have failed
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
}

/// `watch`
#[derive(Args, Clone, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many
    #[arg(long, value_name = "N")]
    pub(super) viewers: u64,
    /// How many come each second [default: all at once]
    #[arg(long, value_name = "PER_SECOND")]
    pub(super) rate: Option<f64>,
    /// How long to watch once everybody is in
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) duration: Duration,
    /// What the misbehaving ones do
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) misbehave: Option<Misbehaviour>,
    /// How many of them, beside the viewers
    #[arg(long, value_name = "M", default_value_t = 0, requires = "misbehave")]
    pub(super) misbehaving: u64,
}

/// `churn`
#[derive(Args, Clone, Debug)]
pub(crate) struct Churn {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many at once, at most
    #[arg(long, value_name = "N")]
    pub(super) viewers: u64,
    /// How many come each second
    #[arg(long, value_name = "PER_SECOND")]
    pub(super) rate: f64,
    /// How long each stays
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) stay: Duration,
    /// How long viewers keep coming
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) duration: Duration,
}

/// `storm`
#[derive(Args, Clone, Debug)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many watch before
    #[arg(long, value_name = "W")]
    pub(super) watchers: u64,
    /// How many then come
    #[arg(long, value_name = "N")]
    pub(super) viewers: u64,
    /// The time in which they come
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) within: Duration,
    /// How long to watch afterwards
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
}

impl Common {
    pub(super) fn access(&self) -> Result<Access> {
        if self.whep.is_none() && self.token_url.is_none() {
            bail!("give --whep, or --token-url with an answer that names the endpoint");
        }
        let header = |text: &String| {
            let (name, value) = text.split_once(':').with_context(|| format!("{text:?} is not `K: V`"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        Ok(Access {
            whep: self.whep.clone(),
            token: self.token.clone(),
            token_url: self.token_url.clone(),
            headers: self.header.iter().map(header).collect::<Result<_>>()?,
            retries: self.retries,
        })
    }

    /// Any address of the server, for finding out which of ours reaches it.
    pub(super) fn server(&self) -> Option<&str> {
        self.whep.as_deref().or(self.token_url.as_deref())
    }

    pub(super) fn quality(&self) -> Result<Option<Quality>> {
        if !(0.0..100.0).contains(&self.loss) {
            bail!("--loss is a percentage below 100");
        }
        let quality =
            Quality { loss: self.loss / 100.0, delay: Duration::from_millis(self.delay), seed: self.seed };
        Ok((self.loss > 0.0 || self.delay > 0).then_some(quality))
    }

    pub(super) fn from(&self) -> Result<Vec<IpAddr>> {
        /// Addresses in all.
        const MAX: usize = 4096;
        let mut all = Vec::new();
        for range in &self.from {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let parse =
                |text: &str| text.parse::<IpAddr>().with_context(|| format!("{text:?} is no address"));
            match (parse(first)?, parse(last)?) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    all.extend(
                        (first.to_bits()..=last.to_bits()).take(MAX).map(|bits| IpAddr::V4(bits.into())),
                    );
                }
                (first, last) if first == last => all.push(first),
                _ => bail!("{range:?}: ranges are of IPv4 addresses"),
            }
        }
        if all.len() > MAX {
            bail!("--from names more than {MAX} addresses");
        }
        Ok(all)
    }
}

/// `30s`, `500ms`, `2m`; without a unit seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no time"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("{text:?} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let times = ["30s", "30", "0.5m", "250ms"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(times, [30_000, 30_000, 30_000, 250]);
        for bad in ["", "s", "-1s", "1d", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
