//! How publishers begin. The recordings are what real clients sent, after their handshake; the same files are seeds of the
//! fuzz target.
use std::path::Path;

use rtmp::{Event, PublishRequest, amf0::Value};

use crate::amf::{command, ecma_array, null, number, object, strict_array, string};
use crate::client::{Client, chunks};
use crate::random::Random;

/// A recording without the byte in front that is meant for the fuzz target.
fn recording(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/session").join(name);
    std::fs::read(path).unwrap()[1..].to_vec()
}

/// Feeds it in pieces, and accepts where the recorded client waited for that.
fn replay(bytes: &[u8], random: &mut Random) -> (Client, PublishRequest) {
    let mut client = Client::open();
    let mut request = None;
    let publish = b"\x02\x00\x07publish";
    let at = bytes.windows(publish.len()).position(|window| window == publish).unwrap();
    // All three name the same stream, live: 41 bytes of command.
    let (opening, stream) = bytes.split_at(at + 41);
    for part in [opening, stream] {
        for piece in random.pieces(part) {
            client.feed(piece).unwrap();
        }
        request = request.or_else(|| match client.events.pop() {
            Some(Event::PublishRequested(asked)) => Some(asked),
            _ => None,
        });
        client.accept();
    }
    (client, request.unwrap())
}

#[test]
fn real_clients_are_understood_from_the_first_command_to_the_last() {
    let (lavf, gst) = ("FMLE/3.0 (compatible; Lavf59.27.100)", "LNX 10,0,32,18");
    // Number of media messages, and the times of the first and last; each ends with an empty picture or its last frame.
    for (name, encoder, media, first, last) in [
        ("ffmpeg", lavf, 21, 0, 332),
        ("librtmp-extended", "", 10, 0, 0xff_fff0 + 33),
        ("gstreamer", gst, 6, 0, 300),
    ] {
        let bytes = recording(name);
        for seed in 0..20 {
            let (client, request) = replay(&bytes, &mut Random(seed));
            let expected = PublishRequest {
                app: "live".to_owned(),
                stream_key: "room101?k=S".to_owned(),
                encoder: encoder.to_owned(),
            };
            assert_eq!(request, expected, "{name}");
            let times: Vec<u32> = client.media().iter().map(|(time, _)| *time).collect();
            assert_eq!(
                (times.len(), times[0], times[times.len() - 1]),
                (media, first, last),
                "{name} {times:?}"
            );
            assert!(client.events.iter().any(|event| matches!(event, Event::Metadata(_))), "{name}");
            assert!(matches!(client.events.last(), Some(Event::PublishEnded)), "{name}");
            assert!(client.is_closed && client.says("NetStream.Publish.Start"), "{name}");
        }
    }
}

#[test]
fn a_phone_that_sends_its_opening_at_once_gets_every_answer_whole_and_with_its_transaction() {
    let mut client = Client::open();
    let about = object(&[("app", string("live")), ("flashVer", string("phone"))]);
    let opening = [
        chunks(3, 20, 0, &command("connect", 1.0, &[about]), 128),
        chunks(3, 20, 0, &command("releaseStream", 2.0, &[null(), string("room101?key=S")]), 128),
        chunks(3, 20, 0, &command("FCPublish", 3.0, &[null(), string("room101?key=S")]), 128),
        chunks(3, 20, 0, &command("createStream", 4.0, &[null()]), 128),
        chunks(3, 20, 0, &command("_checkbw", 5.0, &[null()]), 128),
        chunks(3, 20, 0, &command("getStreamLength", 6.0, &[null(), string("room101")]), 128),
    ];
    client.feed(&opening.concat()).unwrap();
    let replies = client.replies();
    // Window, bandwidth and chunk size go before the answer to connect, which some encoders rely on.
    assert_eq!(replies[..3].iter().map(|reply| reply.kind).collect::<Vec<_>>(), [5, 6, 1]);
    let commands = &replies[3..];
    for (at, (name, transaction)) in [
        ("_result", 1.0),
        ("_result", 2.0),
        ("_result", 3.0),
        ("onFCPublish", 0.0),
        ("_result", 4.0),
        ("_result", 5.0),
        ("_result", 6.0),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(commands[at].is_command(name, transaction), "{name} {transaction}");
    }
    assert_eq!(commands.len(), 7);
    assert_eq!(commands[4].body, command("_result", 4.0, &[null(), number(1.0)]));
    client.command("publish", 7.0, &[null(), string("room101?key=S"), string("live")]).unwrap();
    assert_eq!(client.replies().len(), 10, "publish is not answered before the key is known");
    client.accept();
    let replies = client.replies();
    assert_eq!((replies[10].kind, &replies[10].body[..]), (4, &[0, 0, 0, 0, 0, 1][..]), "stream begin");
    assert!(replies[11].is_command("onStatus", 0.0) && client.says("NetStream.Publish.Start"));
}

#[test]
fn obs_sets_its_chunk_size_first_and_sends_media_behind_full_metadata() {
    let mut client = Client::open();
    client.feed(&chunks(2, 1, 0, &4096_u32.to_be_bytes(), 128)).unwrap();
    client.chunk_size = 4096;
    let codecs = ["av01", "hvc1"].map(string);
    let about = object(&[
        ("app", string("live")),
        ("type", string("nonprivate")),
        ("flashVer", string("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("swfUrl", string("rtmp://school.example/live")),
        ("tcUrl", string("rtmp://school.example/live")),
        ("fourCcList", strict_array(&codecs)),
    ]);
    client.command("connect", 1.0, &[about]).unwrap();
    assert!(client.says("fourCcList") && client.says("Opus"), "who lists codecs is told ours");
    client.command("releaseStream", 2.0, &[null(), string("S")]).unwrap();
    client.command("FCPublish", 3.0, &[null(), string("S")]).unwrap();
    client.command("createStream", 4.0, &[null()]).unwrap();
    client.command("publish", 5.0, &[null(), string("S"), string("live")]).unwrap();
    client.accept();
    let properties = [("duration", number(0.0)), ("encoder", string("obs-output module"))];
    let metadata = [string("@setDataFrame"), string("onMetaData"), ecma_array(20, &properties)].concat();
    client.message(18, 0, &metadata).unwrap();
    client.message(8, 0, &[0xaf, 0, 0x11, 0x90]).unwrap();
    client.message(9, 0, &[&[0x17, 0, 0, 0, 0][..], &[1; 40]].concat()).unwrap();
    assert!(matches!(&client.events[1], Event::Metadata(pairs)
        if pairs[1] == ("encoder".to_owned(), Value::String("obs-output module".to_owned()))));
    assert_eq!(client.media().len(), 2);
}

#[test]
fn who_lists_no_codecs_gets_no_list() {
    let mut client = Client::open();
    client.command("connect", 1.0, &[object(&[("app", string("live"))])]).unwrap();
    assert!(client.says("NetConnection.Connect.Success") && !client.says("fourCcList"));
}

#[test]
fn a_publish_type_a_command_object_and_transactions_may_be_missing() {
    let mut client = Client::open();
    client.message(20, 0, &string("connect")).unwrap();
    client.command("createStream", 0.0, &[]).unwrap();
    assert!(client.replies().last().unwrap().is_command("_result", 0.0));
    client.command("publish", 0.0, &[null(), string("key")]).unwrap();
    assert!(matches!(&client.events[..], [Event::PublishRequested(request)] if request.stream_key == "key"));
}

#[test]
fn answers_to_earlier_commands_leave_before_the_shell_is_asked() {
    let mut client = Client::open();
    let opening = [
        command("connect", 1.0, &[]),
        command("createStream", 2.0, &[]),
        command("publish", 3.0, &[null(), string("key")]),
    ];
    let bytes: Vec<u8> = opening.iter().flat_map(|body| chunks(3, 20, 0, body, 128)).collect();
    client.session.handle_input(client.now, &bytes).unwrap();
    assert!(matches!(client.session.poll_output(), rtmp::Output::Send(_)));
    assert!(matches!(client.session.poll_output(), rtmp::Output::Event(Event::PublishRequested(_))));
}
