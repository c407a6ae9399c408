//! File descriptors: the limit raised as far as it goes, and shared out so that no port can use up those of another.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where nothing limits them: more than any of our bounds asks for.
const UNLIMITED: u64 = 1 << 20;

/// How many descriptors the connections of each kind may have at most. A third is for HTTP, a quarter for RTMP, a quarter
/// for media over TCP. The remaining sixth is for the operators' port, the database, the shards and calls of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Page, API and WHEP together.
    pub http: usize,
    /// RTMP.
    pub rtmp: usize,
    /// Media over TCP.
    pub media: usize,
}

impl Shares {
    /// Of so many descriptors.
    pub fn of(descriptors: usize) -> Self {
        Self { http: descriptors / 3, rtmp: descriptors / 4, media: descriptors / 4 }
    }
}

/// Raises the soft limit of open files to the hard one, and returns the one that holds then.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
            current
        }
    };
    usize::try_from(limit.unwrap_or(UNLIMITED).min(UNLIMITED)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_share_leaves_descriptors_for_the_others() {
        for descriptors in [64, 256, 1024, 20_000, 1 << 20] {
            let Shares { http, rtmp, media } = Shares::of(descriptors);
            assert!(http + rtmp + media <= descriptors - descriptors / 7, "{descriptors}");
            assert!(http.min(rtmp).min(media) >= descriptors / 4, "{descriptors}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        assert!(limit > 0);
    }
}
