//! Offers that nobody should send.
use super::*;

#[test]
fn credentials_of_wrong_lengths_and_characters_are_refused() {
    for (old, new) in [
        ("a=ice-ufrag:PiUI", "a=ice-ufrag:Pi".to_owned()),
        ("a=ice-ufrag:PiUI", format!("a=ice-ufrag:{}", "x".repeat(257))),
        ("a=ice-ufrag:PiUI", "a=ice-ufrag:Pi UI".to_owned()),
        ("a=ice-pwd:", "a=ice-pwd:<>".to_owned()),
    ] {
        let ufrag = CHROMIUM.lines().find(|line| line.starts_with("a=ice-ufrag:")).unwrap();
        let bad = CHROMIUM.replace(if old.contains("ufrag") { ufrag } else { old }, &new);
        assert_ne!(bad, CHROMIUM);
        let refused = answer_with(&bad, Some(BASELINE), true, false);
        assert_eq!(refused, Err(OfferError::NoCredentials), "{new:.40}");
    }
}

#[test]
fn what_is_no_offer_or_too_much_of_one_is_refused() {
    for bad in ["", "hello", "v=1\n", "v=0\n", "v=0\nm=video\n", "v=0\nm=video x UDP 96\n", "v=0\nhello\n"] {
        assert_eq!(Offer::parse(bad), Err(OfferError::NotSdp), "{bad:?}");
    }
    assert_eq!(Offer::parse(&"v=0\n".repeat(SDP_BYTES_MAX / 4 + 1)), Err(OfferError::TooLarge));
    let many = CHROMIUM.to_owned() + &"m=video 9 UDP/TLS/RTP/SAVPF 96\n".repeat(64);
    assert_eq!(Offer::parse(&many), Err(OfferError::TooManySections));
}

#[test]
fn nothing_but_tokens_of_an_offer_comes_back() {
    for (old, new) in [
        ("VP8/90000", "V\ra=evil/90000"),
        ("a=mid:0", "a=mid:0\ra=evil"),
        ("SAVPF 96", "SAVPF\ra=evil 96"),
        ("m=video 9", "m=vi\ra=evil 9"),
        ("profile-level-id=42e01f", "profile-level-id=42e01f\ra=evil"),
    ] {
        for video in [None, Some(BASELINE)] {
            let offer = CHROMIUM.replacen(old, new, 1);
            assert_ne!(offer, CHROMIUM);
            if let Ok(answer) = answer_with(&offer, video, true, true) {
                assert!(!answer.sdp.contains("evil"), "{old}: {}", answer.sdp);
            }
        }
    }
}

#[test]
fn a_fingerprint_is_32_pairs_of_digits() {
    let good = "AB:".repeat(31) + "ab";
    assert_eq!(Fingerprint::parse(&good), Some(Fingerprint::new([0xab; 32])));
    for bad in [
        good.replacen("AB", "+A", 1),
        good.replacen("AB", "A", 1),
        good.clone() + ":00",
        good[3..].to_owned(),
    ] {
        assert_eq!(Fingerprint::parse(&bad), None, "{bad}");
    }
}

/// Answers every way that there is, and reads the answer as one would an offer.
fn endure(offer: &str) {
    if Offer::parse(offer).is_err() {
        return;
    }
    for (video, audio) in [(Some(BASELINE), true), (Some(HIGH), false), (None, true)] {
        if let Ok(answer) = answer_with(offer, video, audio, true) {
            assert!(answer.sdp.starts_with("v=0\r\n") && answer.sdp.ends_with("\r\n"));
            Offer::parse(&answer.sdp).unwrap_or_else(|error| panic!("{error}: {}", answer.sdp));
            assert!(answer.terms.video.is_some() || answer.terms.audio.is_some());
        }
    }
}

#[test]
fn an_offer_that_breaks_off_anywhere_is_answered_or_refused() {
    // Chromium's and aiortc's are long and repeat themselves: there every seventh byte will do.
    for (offer, step) in [(PION, 1), (GSTREAMER, 1), (AIORTC, 7), (CHROMIUM, 7)] {
        (0..=offer.len()).step_by(step).for_each(|end| endure(&offer[..end]));
    }
}

#[test]
fn thousands_of_damaged_offers_are_answered_or_refused() {
    // xorshift: the same damage each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).unwrap() % below
    };
    let offers = [CHROMIUM, AIORTC, PION, GSTREAMER];
    for _ in 0..2000 {
        let offer = offers[random(offers.len())];
        let mut lines: Vec<&str> = offer.lines().collect();
        let mut damaged = match random(4) {
            0 => {
                lines.remove(random(lines.len()));
                lines.join("\n")
            }
            1 => {
                lines.insert(random(lines.len()), lines[random(lines.len())]);
                lines.join("\n")
            }
            2 => {
                let (a, b) = (random(lines.len()), random(lines.len()));
                lines.swap(a, b);
                lines.join("\r\n")
            }
            _ => offer.to_owned(),
        }
        .into_bytes();
        for _ in 0..random(6) {
            let at = random(damaged.len());
            damaged[at] = *b"\r\n =:/;,09aZ\x00\x7f\xff-".get(random(17)).unwrap_or(&b'm');
        }
        endure(&String::from_utf8_lossy(&damaged));
    }
}
