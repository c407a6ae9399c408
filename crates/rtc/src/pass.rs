//! The steps of a shard's pass that are the same around a socket and in a scenario: what is taken in which order, and what is
//! left for the next pass.
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::egress::{Clock, Egress};

/// Commands, frames, forwarded datagrams and handshakes taken before the next step of a pass.
pub(crate) const TAKEN_AT_ONCE: usize = 256;
/// How long frames, and then timers, may take before the next step of a pass: a good part of what audio may be late.
const STEP_MAX: Duration = Duration::from_millis(10);

/// What is around a machine.
pub(crate) trait Around {
    fn egress(&mut self) -> &mut Egress;

    fn next_command(&mut self) -> Option<Command>;

    /// Sends what the machine has written, and passes on what else came out.
    fn flush(&mut self);

    /// Lets those run who bring audio, if they share this core, and tells the time after that.
    fn give_way(&mut self) -> Clock;

    /// Something is left for the next pass.
    fn set_busy(&mut self);
}

pub(crate) fn take_commands(around: &mut impl Around, now: Instant) {
    for _ in 0..TAKEN_AT_ONCE {
        let Some(command) = around.next_command() else { return };
        around.egress().on_command(now, command);
    }
    around.set_busy();
}

/// Sends the frames that wait.
pub(crate) fn send_frames(around: &mut impl Around, began: Instant) {
    let mut now = began;
    while around.egress().work(now) {
        now = make_way(around).now;
        if now > began + STEP_MAX {
            return around.set_busy();
        }
    }
}

/// Runs the timers that are due.
pub(crate) fn run_timers(around: &mut impl Around, began: Clock) {
    let mut clock = began;
    while around.egress().on_timeout(clock) {
        clock = make_way(around);
        around.egress().work(clock.now);
        if clock.now > began.now + STEP_MAX {
            return around.set_busy();
        }
    }
}

/// Amid long work: writes what there is, and takes what has come. Returns the moment at which the work goes on: what is sent
/// then must not look as if it had been on its way for long.
fn make_way(around: &mut impl Around) -> Clock {
    around.flush();
    let clock = around.give_way();
    take_commands(around, clock.now);
    clock
}
