//! Sound in virtual time: half an hour of it in seconds.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what fails here fails the test, and what it measures is shown"
)]
use bytes::Bytes;
use ingest::transcode::{OpusPacket, Redundancy, Transcoder};
use media::MediaTime;
use media::aac::AudioSpecificConfig;
use media::flv::AudioTag;
use media::flv::file::Tags;

/// A tone of 1 kHz: its configuration and its AAC frames.
fn tone(file: &'static [u8]) -> (AudioSpecificConfig, Vec<Bytes>) {
    let mut config = None;
    let mut frames = Vec::new();
    for tag in Tags::parse(Bytes::from_static(file)).unwrap().filter(|tag| tag.kind == 8) {
        match AudioTag::parse(tag.body).unwrap() {
            AudioTag::AacConfig(bytes) => config = Some(AudioSpecificConfig::parse(&bytes).unwrap()),
            AudioTag::Aac(frame) => frames.push(frame),
            AudioTag::OpusConfig { .. } | AudioTag::Opus(_) | AudioTag::Coded(..) | AudioTag::Nothing => {}
        }
    }
    (config.unwrap(), frames)
}

const MONO_44100: &[u8] = include_bytes!("fixtures/tone-44100-1.flv");
const STEREO_48000: &[u8] = include_bytes!("fixtures/tone-48000-2.flv");
const STEREO_32000: &[u8] = include_bytes!("fixtures/tone-32000-2.flv");

/// When frame `index` is due by a clock that is off by `ppm`, rounded to milliseconds as RTMP does.
fn due(index: u32, rate_hz: u32, ppm: f64) -> MediaTime {
    let seconds = f64::from(index) * 1024.0 / f64::from(rate_hz) * (1.0 + ppm / 1e6);
    #[expect(clippy::cast_possible_truncation, reason = "half an hour in milliseconds")]
    MediaTime::from_millis(5000 + (seconds * 1000.0).round() as i64)
}

/// Feeds `count` frames and returns every packet with the time of the input that completed it.
fn run(file: &'static [u8], count: u32, ppm: f64) -> Vec<(MediaTime, OpusPacket)> {
    let (config, frames) = tone(file);
    let mut transcoder = Transcoder::new(config, Redundancy::None).unwrap();
    let mut packets = Vec::new();
    // Beyond the encoder's first frames the tone is steady, so it can be looped.
    let steady: Vec<_> = frames.iter().skip(4).take(86).collect();
    for index in 0..count {
        let time = due(index, config.rate_hz, ppm);
        let frame = steady[index as usize % steady.len()];
        transcoder.push(time, frame, |packet| packets.push((time, packet))).unwrap();
    }
    assert_eq!(transcoder.damaged_frames, 0);
    packets
}

fn half_an_hour_keeps_time(ppm: f64) {
    let packets = run(MONO_44100, 30 * 60 * 44_100 / 1024, ppm);
    assert!(packets.len() > 89_900, "{} packets", packets.len());
    let ticks = packets.iter().map(|(_, packet)| packet.time.ticks(48_000));
    assert!(ticks.clone().zip(ticks.skip(1)).all(|(a, b)| b - a == 960), "every step is exactly 960");
    let lag_us = |(input, packet): &(MediaTime, OpusPacket)| (*input - packet.time).as_micros();
    let mean = |part: &[(MediaTime, OpusPacket)]| {
        part.iter().map(lag_us).sum::<i64>() / i64::try_from(part.len()).unwrap()
    };
    let beginning = mean(&packets[..500]);
    let worst = packets.chunks(500).map(|part| (mean(part) - beginning).abs()).max().unwrap();
    println!("clock off by {ppm} ppm for 30 min: greatest drift {worst} us");
    assert!(worst < 20_000, "drifted by {worst} us; 60,000 would be heard");
}

#[test]
fn half_an_hour_of_a_fast_clock_steps_by_960_and_does_not_drift() {
    half_an_hour_keeps_time(-50.0);
}

#[test]
fn half_an_hour_of_a_slow_clock_steps_by_960_and_does_not_drift() {
    half_an_hour_keeps_time(50.0);
}

/// The power of one frequency among samples at 48 kHz (Goertzel).
fn power(samples: &[f32], frequency: f32) -> f32 {
    let coefficient = 2.0 * (2.0 * std::f32::consts::PI * frequency / 48_000.0).cos();
    let (mut before, mut last) = (0.0_f32, 0.0_f32);
    for sample in samples {
        (before, last) = (last, sample + coefficient * last - before);
    }
    before * before + last * last - coefficient * before * last
}

#[test]
fn the_tone_comes_out_as_it_went_in_at_every_rate() {
    for (file, channels) in [(MONO_44100, 1), (STEREO_48000, 2), (STEREO_32000, 2)] {
        let packets = run(file, 120, 0.0);
        let layout = if channels == 1 { opus::Channels::Mono } else { opus::Channels::Stereo };
        let mut decoder = opus::Decoder::new(48_000, layout).unwrap();
        let mut left = Vec::new();
        for (_, packet) in &packets {
            let mut pcm = vec![0.0; 960 * channels];
            assert_eq!(decoder.decode_float(&packet.packet, &mut pcm, false).unwrap(), 960);
            left.extend(pcm.iter().step_by(channels));
        }
        let steady = &left[9600..9600 + 48_000];
        let tone = power(steady, 1000.0);
        for other in [500.0, 918.75, 1088.4, 2000.0, 3000.0] {
            assert!(tone > 1000.0 * power(steady, other), "{other} Hz is heard");
        }
        let loudness = steady.iter().map(|sample| sample * sample).sum::<f32>() / 48_000.0;
        assert!(
            (0.003..0.02).contains(&loudness),
            "a sine of an eighth of full scale has 0.0078, each half of a stereo pair half of it: {loudness}"
        );
    }
}

#[test]
fn a_pause_moves_the_count_by_whole_packets() {
    let (config, frames) = tone(MONO_44100);
    let mut transcoder = Transcoder::new(config, Redundancy::None).unwrap();
    let mut times = Vec::new();
    for index in 0..120_u32 {
        let pause = if index < 60 { 0 } else { 500 };
        let time = due(index, config.rate_hz, 0.0) + MediaTime::from_millis(pause);
        let frame = &frames[index as usize];
        transcoder.push(time, frame, |packet| times.push(packet.time.as_micros())).unwrap();
    }
    let steps: Vec<i64> =
        times.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step != 20_000).collect();
    assert!(matches!(steps[..], [520_000 | 500_000 | 540_000]), "{steps:?}");
}

#[test]
fn sound_that_comes_twice_is_played_once() {
    let (config, frames) = tone(MONO_44100);
    let mut transcoder = Transcoder::new(config, Redundancy::None).unwrap();
    let mut times = Vec::new();
    for index in (0..60).chain(30..120_u32) {
        let time = due(index, config.rate_hz, 0.0);
        transcoder.push(time, &frames[index as usize], |packet| times.push(packet.time)).unwrap();
    }
    assert!(times.is_sorted_by(|a, b| a < b));
    let played_ms = (times[times.len() - 1] - times[0]).as_millis();
    assert!((2700..2850).contains(&played_ms), "120 frames are 2.8 s, not 3.5: {played_ms} ms");
}

#[test]
fn damaged_frames_cost_themselves_and_nothing_else() {
    let (config, frames) = tone(MONO_44100);
    let mut transcoder = Transcoder::new(config, Redundancy::None).unwrap();
    let mut state = 9_u32;
    let mut count = 0;
    for index in 0..600_u32 {
        let mut frame = frames[index as usize % frames.len()].to_vec();
        if index % 3 == 0 {
            for byte in &mut frame {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = u8::try_from(state >> 24).unwrap();
            }
        }
        if index % 50 == 1 {
            frame.truncate(3);
        }
        transcoder.push(due(index, config.rate_hz, 0.0), &frame, |_| count += 1).unwrap();
    }
    assert!(transcoder.damaged_frames > 0);
    assert!((690..=697).contains(&count), "600 frames are 13.9 s: {count} packets");
}

#[test]
fn a_lost_packet_is_heard_from_the_one_after_it_where_that_was_asked_for() {
    let loudness = |redundancy| {
        let (config, frames) = tone(STEREO_48000);
        let mut transcoder = Transcoder::new(config, redundancy).unwrap();
        let mut packets = Vec::new();
        for index in 0..60_u32 {
            let time = due(index, config.rate_hz, 0.0);
            transcoder.push(time, &frames[index as usize], |packet| packets.push(packet.packet)).unwrap();
        }
        // The encoder repeats what it takes for speech, as it does a tone that begins. A decoder that has heard nothing
        // has nothing else to conceal with.
        let heard = packets.iter().map(|packet| {
            let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
            let mut sound = [0.0_f32; 960 * 2];
            decoder.decode_float(packet, &mut sound, true).unwrap();
            sound.iter().map(|sample| sample * sample).sum::<f32>() / 1920.0
        });
        heard.fold(0.0, f32::max)
    };
    let (without, with) = (loudness(Redundancy::None), loudness(Redundancy::InBandFec));
    assert!(without < 1e-6 && with > 1e-3, "{without} without, {with} with");
}
