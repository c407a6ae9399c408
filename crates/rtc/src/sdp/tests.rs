//! Offers of real players, and what becomes of them.
use super::*;

mod hostile;

/// Headless Chromium 156, with a data channel.
const CHROMIUM: &str = include_str!("offers/chromium.sdp");
/// aiortc, after gathering: three hashes, candidates, sources of its own.
const AIORTC: &str = include_str!("offers/aiortc.sdp");
/// The way Pion writes: sound first, the fingerprint at the session, a space behind `nack`.
const PION: &str = include_str!("offers/pion.sdp");
/// The way GStreamer's `whepsrc` writes: Opus without channels, a bundle-only section, H.264 without parameters.
const GSTREAMER: &str = include_str!("offers/gstreamer.sdp");

const BASELINE: [u8; 3] = [0x42, 0xc0, 0x1e];
const CONSTRAINED: [u8; 3] = [0x42, 0xe0, 0x1f];
const MAIN: [u8; 3] = [0x4d, 0x40, 0x28];
const HIGH: [u8; 3] = [0x64, 0x00, 0x28];

fn credentials() -> Credentials {
    Credentials { ufrag: "0abcdefghijk".to_owned(), pwd: "abcdefghijklmnopqrstuvwx".to_owned() }
}

fn answer_with(
    offer: &str,
    video: Option<[u8; 3]>,
    audio: bool,
    low_latency: bool,
) -> Result<Answer, OfferError> {
    let addr: SocketAddr = ([192, 0, 2, 1], 8189).into();
    Offer::parse(offer)?.answer(&Local {
        credentials: &credentials(),
        fingerprint: Fingerprint::new([0xab; 32]),
        candidates: &[
            Candidate { addr, transport: Transport::Udp },
            Candidate { addr, transport: Transport::TcpPassive },
        ],
        video,
        audio,
        low_latency,
        ssrcs: Ssrcs { video: 1, video_rtx: 2, audio: 3 },
        session_id: 7,
        cname: "cname",
    })
}

fn answer(offer: &str) -> Answer {
    answer_with(offer, Some(BASELINE), true, false).unwrap_or_else(|error| panic!("{error} for {offer}"))
}

/// The sections of an answer, its head first.
fn sections(sdp: &str) -> Vec<&str> {
    let starts = sdp.match_indices("m=").map(|(at, _)| at).filter(|at| sdp[..*at].ends_with('\n'));
    let mut edges: Vec<usize> = [0].into_iter().chain(starts).collect();
    edges.push(sdp.len());
    edges.windows(2).map(|edge| &sdp[edge[0]..edge[1]]).collect()
}

fn pt_for(offer: &str, profile: [u8; 3]) -> u8 {
    answer_with(offer, Some(profile), true, false).unwrap().terms.video.unwrap().pt
}

fn transport(mid: &str, direction: &str) -> Vec<String> {
    let hash = "AB:".repeat(31) + "AB";
    [
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
        "a=candidate:2 1 tcp 1526726399 192.0.2.1 8189 typ host tcptype passive",
        "a=end-of-candidates",
        "a=ice-ufrag:0abcdefghijk",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        &format!("a=fingerprint:sha-256 {hash}"),
        "a=setup:passive",
        &format!("a=mid:{mid}"),
        &format!("a={direction}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn chromium_is_answered_with_exactly_these_lines() {
    let mut expected: Vec<String> = [
        "v=0",
        "o=- 7 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=msid-semantic: WMS *",
        "a=ice-lite",
        "m=video 9 UDP/TLS/RTP/SAVPF 108 109",
    ]
    .map(str::to_owned)
    .to_vec();
    expected.extend(transport("0", "sendonly"));
    let video = [
        "a=msid:cname video",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        "a=rtcp-rsize",
        "a=rtpmap:108 H264/90000",
        "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtcp-fb:108 nack",
        "a=rtcp-fb:108 nack pli",
        "a=rtcp-fb:108 ccm fir",
        "a=rtcp-fb:108 transport-cc",
        "a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "a=rtpmap:109 rtx/90000",
        "a=fmtp:109 apt=108",
        "a=ssrc-group:FID 1 2",
        "a=ssrc:1 cname:cname",
        "a=ssrc:1 msid:cname video",
        "a=ssrc:2 cname:cname",
        "a=ssrc:2 msid:cname video",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    ];
    expected.extend(video.map(str::to_owned));
    expected.extend(transport("1", "sendonly"));
    let rest = [
        "a=msid:cname audio",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1",
        "a=ssrc:3 cname:cname",
        "a=ssrc:3 msid:cname audio",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:2",
        "a=inactive",
        "",
    ];
    expected.extend(rest.map(str::to_owned));
    let Answer { sdp, terms } = answer(CHROMIUM);
    assert_eq!(sdp.split("\r\n").collect::<Vec<_>>(), expected);
    let video = VideoTerms {
        mid: "0".to_owned(),
        pt: 108,
        ssrc: 1,
        rtx: Some(Rtx { pt: 109, ssrc: 2 }),
        nack: true,
        playout_delay_id: None,
        transport_cc_id: Some(4),
    };
    assert_eq!(terms.video, Some(video));
    assert_eq!(terms.audio, Some(AudioTerms { mid: "1".to_owned(), pt: 111, ssrc: 3 }));
    assert!(
        CHROMIUM.contains(&format!("a=ice-ufrag:{}\na=ice-pwd:{}\n", terms.remote.ufrag, terms.remote.pwd))
    );
    assert!(CHROMIUM.contains(&format!("a=fingerprint:sha-256 {}\n", terms.remote_fingerprint)));
    assert_eq!(answer(&CHROMIUM.replace('\n', "\r\n")).sdp, sdp, "either end of line");
}

#[test]
fn aiortc_sends_several_hashes_and_its_sha_256_counts() {
    let Answer { sdp, terms } = answer(AIORTC);
    assert!(AIORTC.contains(&format!("a=fingerprint:sha-256 {}\n", terms.remote_fingerprint)));
    assert_eq!(terms.video.map(|video| (video.pt, video.rtx)), Some((101, Some(Rtx { pt: 102, ssrc: 2 }))));
    assert_eq!(terms.audio.map(|audio| audio.pt), Some(96));
    assert!(!sdp.contains("rtcp-rsize") && !sdp.contains("ccm fir"), "only what was offered: {sdp}");
    let only_others = AIORTC.replace("sha-256", "sha-224");
    assert_eq!(answer_with(&only_others, Some(BASELINE), true, false), Err(OfferError::NoFingerprint));
}

#[test]
fn pion_offers_sound_first_and_keeps_its_order() {
    let Answer { sdp, terms } = answer(PION);
    let [head, audio, video] = sections(&sdp)[..] else { panic!("{sdp}") };
    assert!(head.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(audio.starts_with("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n") && audio.contains("a=mid:0\r\n"));
    assert!(video.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\n") && video.contains("a=mid:1\r\n"));
    assert!(PION.contains(&format!("a=fingerprint:sha-256 {}\n", terms.remote_fingerprint)));
    assert!(terms.video.is_some_and(|video| video.nack), "a space behind the word is no other word");
    assert_eq!(pt_for(PION, HIGH), 112);
}

#[test]
fn gstreamer_leaves_out_channels_parameters_and_a_second_transport() {
    let Answer { sdp, terms } = answer(GSTREAMER);
    let [head, audio, video] = sections(&sdp)[..] else { panic!("{sdp}") };
    assert!(head.contains("a=group:BUNDLE audio0 video1\r\n"));
    assert!(audio.contains("a=rtpmap:97 opus/48000/2\r\n"));
    assert!(
        video.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 101\r\n") && video.contains("packetization-mode=1")
    );
    assert_eq!(terms.remote.ufrag, "Px2L9rDzcQkz8mZK4rTnMvN6iGZ0uJ4A");
    assert_eq!(terms.video.map(|video| (video.mid, video.rtx)), Some(("video1".to_owned(), None)));
}

#[test]
fn the_payload_type_follows_the_profile_of_the_stream() {
    assert_eq!(pt_for(CHROMIUM, BASELINE), 108);
    assert_eq!(pt_for(CHROMIUM, MAIN), 116, "x264 sets constraint_set1 in Main, browsers do not");
    assert_eq!(pt_for(CHROMIUM, HIGH), 108, "browsers decode High that they do not list");
    assert_eq!(pt_for(CHROMIUM, [0x42, 0x00, 0x1e]), 102);
    let without = CHROMIUM.replace("42e01f", "4d001f");
    assert_eq!(pt_for(&without, HIGH), 102, "baseline where constrained baseline is not offered");
}

#[test]
fn the_answer_keeps_the_offered_profile_and_raises_the_level_to_the_streams() {
    let high = answer_with(CHROMIUM, Some([0x64, 0x00, 0x33]), true, false).unwrap();
    assert!(high.sdp.contains("profile-level-id=42e033\r\n"), "{}", high.sdp);
}

#[test]
fn h264_that_says_nothing_of_fragments_is_the_last_choice() {
    // As GStreamer's `whepclientsrc` offers it.
    let absent = CHROMIUM.replace("packetization-mode=1;", "");
    let Answer { sdp, terms } = answer(&absent);
    assert_eq!(terms.video.map(|video| video.pt), Some(108), "the profile decides among equals");
    assert!(sdp.contains("a=fmtp:108 level-asymmetry-allowed=1;profile-level-id=42e01f\r\n"), "{sdp}");
    let one = absent.replacen("a=fmtp:102 ", "a=fmtp:102 packetization-mode=1;", 1);
    assert_eq!(pt_for(&one, BASELINE), 102, "whatever its profile");
}

#[test]
fn an_offer_without_h264_gets_the_sound() {
    let vp8 = CHROMIUM.replace("H264", "VP8");
    for video in [Some(BASELINE), None] {
        let Answer { sdp, terms } = answer_with(&vp8, video, true, false).unwrap();
        assert!(terms.video.is_none() && terms.audio.is_some());
        let [head, picture, sound, _] = sections(&sdp)[..] else { panic!("{sdp}") };
        // The first section of the bundle keeps its transport, without media.
        assert!(head.contains("a=group:BUNDLE 0 1\r\n"), "{sdp}");
        assert!(picture.starts_with("m=video 9 ") && picture.contains("a=inactive\r\n"), "{sdp}");
        assert!(!picture.contains("a=msid:") && sound.contains("a=sendonly\r\n"), "{sdp}");
    }
    let without_opus = vp8.replace("opus", "speex");
    assert_eq!(answer_with(&without_opus, Some(BASELINE), true, false), Err(OfferError::NoH264));
    let audio_only: String = sections(PION)[..2].concat().replace("BUNDLE 0 1", "BUNDLE 0");
    let answer = answer(&audio_only);
    assert!(answer.terms.video.is_none() && answer.terms.audio.is_some());
}

#[test]
fn a_track_that_the_stream_lacks_is_answered_as_if_it_were_there() {
    for offer in [CHROMIUM, AIORTC, PION, GSTREAMER] {
        let both = answer_with(offer, Some(CONSTRAINED), true, false).unwrap();
        assert!(both.terms.video.is_some() && both.terms.audio.is_some());
        for (video, audio) in [(Some(CONSTRAINED), false), (None, true), (None, false)] {
            assert_eq!(answer_with(offer, video, audio, false).unwrap(), both, "{video:?}, {audio}");
        }
    }
}

#[test]
fn a_static_payload_type_without_a_name_is_not_repeated() {
    let bare = PION.replace("111 9 0 8", "0 9 111").replace("opus/48000", "speex/16000");
    let bare: String =
        bare.lines().filter(|line| *line != "a=rtpmap:0 PCMU/8000").flat_map(|l| [l, "\n"]).collect();
    let idle = answer(&bare).sdp;
    assert!(
        idle.contains("m=audio 9 UDP/TLS/RTP/SAVPF 9\r\n") && idle.contains("a=rtpmap:9 g722/8000\r\n"),
        "{idle}"
    );
}

#[test]
fn at_most_one_section_of_a_kind_is_accepted() {
    let second = sections(CHROMIUM)[1].replace("a=mid:0", "a=mid:3").replace("a=ice-ufrag", "a=x-ufrag");
    let offer = CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + &second;
    let Answer { sdp, .. } = answer(&offer);
    let parts = sections(&sdp);
    assert!(parts[0].contains("BUNDLE 0 1\r\n") && parts[4].starts_with("m=video 0 "), "{sdp}");
    assert_eq!(sdp.matches("a=sendonly").count(), 2);
}

#[test]
fn low_latency_names_the_extension_only_when_asked_and_offered() {
    let low = |offer: &str| answer_with(offer, Some(BASELINE), true, true).unwrap();
    let line = "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n";
    assert!(low(CHROMIUM).sdp.contains(line));
    assert_eq!(low(CHROMIUM).terms.video.unwrap().playout_delay_id, Some(5));
    assert_eq!(low(AIORTC).terms.video.unwrap().playout_delay_id, None);
    assert!(!answer(CHROMIUM).sdp.contains("playout-delay"));
}

#[test]
fn arrivals_are_reported_where_extension_and_feedback_are_both_offered() {
    let id = |offer: &str| answer(offer).terms.video.unwrap().transport_cc_id;
    assert_eq!(id(CHROMIUM), Some(4));
    assert_eq!(id(AIORTC), None);
    assert_eq!(id(&CHROMIUM.replace("a=rtcp-fb:108 transport-cc\n", "")), None);
    assert_eq!(id(&CHROMIUM.replace("draft-holmer", "draft-nobody")), None);
}

#[test]
fn retransmissions_need_their_own_payload_type_and_nack() {
    let other = CHROMIUM.replace("a=fmtp:109 apt=108", "a=fmtp:109 apt=107");
    assert_eq!(answer(&other).terms.video.unwrap().rtx, None);
    let deaf = CHROMIUM.replace("a=rtcp-fb:108 nack\n", "");
    let video = answer(&deaf).terms.video.unwrap();
    assert!(!video.nack && video.rtx.is_none());
}

#[test]
fn directions_and_dtls_roles_that_cannot_work_are_refused() {
    assert!(answer(&CHROMIUM.replace("a=recvonly", "a=sendrecv")).sdp.contains("a=sendonly"));
    assert!(
        answer(&CHROMIUM.replace("a=recvonly\n", "")).sdp.contains("a=sendonly"),
        "sendrecv is the default"
    );
    assert!(answer(&CHROMIUM.replace("actpass", "active")).sdp.contains("a=setup:passive"));
    let refused = |offer: String| answer_with(&offer, Some(BASELINE), true, false).unwrap_err();
    assert_eq!(refused(CHROMIUM.replace("a=recvonly", "a=sendonly")), OfferError::NothingToSend);
    assert_eq!(refused(CHROMIUM.replace("a=recvonly", "a=inactive")), OfferError::NothingToSend);
    assert_eq!(refused(CHROMIUM.replace("actpass", "passive")), OfferError::BothPassive);
    assert_eq!(refused(CHROMIUM.replacen("t=0 0\n", "t=0 0\na=ice-lite\n", 1)), OfferError::BothLite);
    let outer = CHROMIUM.replacen("t=0 0\n", "t=0 0\na=setup:passive\n", 1);
    assert!(
        answer(&outer).sdp.contains("a=setup:passive"),
        "a section's own line counts before the session's"
    );
}

#[test]
fn a_mid_that_two_sections_have_is_refused() {
    let twice = CHROMIUM.replace("a=mid:1", "a=mid:0");
    assert_eq!(Offer::parse(&twice), Err(OfferError::DuplicateMid));
}

#[test]
fn transport_lines_may_stand_at_the_session() {
    let mut outer = String::new();
    let is_outer =
        |line: &&str| ["a=ice-", "a=fingerprint", "a=setup"].iter().any(|start| line.starts_with(start));
    for line in CHROMIUM.lines().filter(|line| !is_outer(line)) {
        outer += &format!("{line}\n");
        if line == "t=0 0" {
            CHROMIUM.lines().filter(is_outer).take(5).for_each(|line| outer += &format!("{line}\n"));
        }
    }
    assert_eq!(answer(&outer), answer(CHROMIUM));
}

#[test]
fn bundle_only_media_use_the_transport_of_a_section_that_is_rejected() {
    let [head, audio, video] = sections(GSTREAMER)[..] else { panic!("three sections") };
    let head = head.replace("BUNDLE audio0", "BUNDLE data audio0");
    let data =
        audio.replace("m=audio 9 UDP/TLS/RTP/SAVPF 97", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
    let audio =
        video.replace("m=video", "m=audio").replace("H264/90000", "OPUS/48000").replace("video1", "audio0");
    let Answer { sdp, terms } = answer(&[&*head, &data.replace("audio0", "data"), &audio, video].concat());
    assert!(sdp.contains("BUNDLE audio0 video1\r\n") && sdp.contains("m=application 0 "), "{sdp}");
    assert_eq!(terms.remote, answer(GSTREAMER).terms.remote);
}

#[test]
fn two_transports_are_refused_and_one_needs_no_bundle() {
    let apart = CHROMIUM.replace("a=group:BUNDLE 0 1 2\n", "");
    assert_eq!(answer_with(&apart, Some(BASELINE), true, false), Err(OfferError::NotBundled));
    let single = answer_with(&apart, Some(BASELINE), false, false).unwrap();
    assert!(!single.sdp.contains("BUNDLE") && single.terms.video.is_some());
    let partly = CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 0 2");
    assert_eq!(answer(&partly).terms.audio, None, "a section outside the group is rejected");
    let untagged = apart.replace("a=mid:0\n", "");
    let untagged = answer_with(&untagged, Some(BASELINE), false, false).unwrap();
    assert!(!sections(&untagged.sdp)[1].contains("a=mid"), "an answer adds no tag of its own");
}
