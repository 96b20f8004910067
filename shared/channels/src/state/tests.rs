//! The machine on a clock of its own.

use super::*;

struct Stage {
    machine: Machine,
    now: Instant,
    start: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(PeerConfig::default(), 7, now), now, start: now }
    }

    fn healthy() -> Self {
        let mut stage = Self::new();
        assert_eq!(stage.step(), Todo::Dial);
        stage.on(Event::Connected);
        assert_eq!(stage.step(), Todo::Probe);
        stage.on(Event::ProbeSucceeded);
        stage
    }

    /// Lets time pass until the next thing is due and begins it.
    fn step(&mut self) -> Todo {
        let (at, _) = self.machine.next().expect("something is due");
        self.now = self.now.max(at);
        self.machine.begin().expect("something is due")
    }

    fn on(&mut self, event: Event) {
        self.machine.on(event, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn state(&self) -> State {
        self.machine.state()
    }

    fn backoff(&self) -> Duration {
        match self.state() {
            State::Ejected { backoff, .. } => backoff,
            state => panic!("not ejected: {state:?}"),
        }
    }
}

#[test]
fn a_new_endpoint_is_probed_before_it_is_used() {
    let mut stage = Stage::new();
    assert_eq!(stage.state(), State::Connecting);
    stage.step();
    stage.on(Event::Connected);
    assert_eq!(stage.state(), State::Probing);
    assert!(!stage.state().is_usable());
    assert_eq!(stage.step(), Todo::Probe);
    stage.on(Event::ProbeSucceeded);
    assert_eq!(stage.state(), State::Healthy);
    let (next, todo) = stage.machine.next().unwrap();
    let distance = next - stage.now;
    assert_eq!(todo, Todo::Probe);
    assert!((4.0..=6.0).contains(&distance.as_secs_f64()), "{distance:?}");
}

#[test]
fn a_killed_server_is_ejected_within_two_seconds() {
    let mut stage = Stage::healthy();
    stage.pass(Duration::from_secs(3));
    let killed = stage.now;
    stage.on(Event::ConnectionLost);
    assert!(!stage.state().is_usable());
    for _ in 0..2 {
        assert_eq!(stage.step(), Todo::Dial);
        stage.on(Event::DialFailed(Failure::Refused));
    }
    assert_eq!(stage.backoff(), Duration::from_secs(1));
    assert!(stage.now - killed <= Duration::from_secs(2));
}

#[test]
fn a_silent_endpoint_is_ejected_within_fifteen_seconds() {
    for seed in 0..100 {
        let mut stage = Stage::healthy();
        stage.machine.rng = SmallRng::seed_from_u64(seed);
        stage.on(Event::ProbeSucceeded);
        let silent = stage.now;
        while !matches!(stage.state(), State::Ejected { .. }) {
            match stage.step() {
                // Its kernel still accepts connections.
                Todo::Dial => stage.on(Event::Connected),
                Todo::Probe => {
                    stage.pass(PeerConfig::default().probe_timeout);
                    stage.on(Event::ProbeFailed(Failure::Silent));
                }
            }
        }
        assert!(stage.now - silent <= Duration::from_secs(15), "{:?}", stage.now - silent);
    }
}

#[test]
fn a_suspect_stays_in_use_and_a_good_probe_clears_it() {
    let mut stage = Stage::healthy();
    stage.step();
    stage.on(Event::ProbeFailed(Failure::Answered));
    assert_eq!(stage.state(), State::Suspect { failures: 1 });
    assert!(stage.state().is_usable());
    let before = stage.now;
    assert_eq!(stage.step(), Todo::Probe);
    assert_eq!(stage.now - before, Duration::from_secs(1));
    stage.on(Event::ProbeSucceeded);
    assert_eq!(stage.state(), State::Healthy);
}

#[test]
fn after_silence_the_next_attempt_takes_a_new_connection() {
    let mut stage = Stage::healthy();
    stage.step();
    stage.on(Event::ProbeFailed(Failure::Silent));
    assert_eq!(stage.step(), Todo::Dial);
}

#[test]
fn the_back_off_doubles_to_a_minute_and_starts_over_after_proven_health() {
    let mut stage = Stage::new();
    let mut backoffs = Vec::new();
    while backoffs.len() < 9 {
        stage.step();
        stage.on(Event::DialFailed(Failure::Refused));
        if let State::Ejected { until, backoff } = stage.state() {
            assert!(until - stage.now >= backoff && until - stage.now <= backoff.mul_f64(1.5));
            backoffs.push(backoff.as_secs());
        }
    }
    assert_eq!(backoffs, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(stage.step(), Todo::Dial);
    assert_eq!(stage.state(), State::Probation);
    stage.on(Event::Connected);
    assert_eq!(stage.state(), State::Probation, "a connection alone proves nothing");
    stage.step();
    stage.on(Event::ProbeSucceeded);
    stage.pass(Duration::from_secs(61));
    stage.on(Event::ConnectionLost);
    for _ in 0..2 {
        stage.step();
        stage.on(Event::DialFailed(Failure::Refused));
    }
    assert_eq!(stage.backoff(), Duration::from_secs(1));
}

#[test]
fn an_endpoint_that_flaps_is_left_alone_longer_each_time() {
    let mut stage = Stage::healthy();
    let mut backoffs = Vec::new();
    for _ in 0..4 {
        for _ in 0..3 {
            stage.pass(Duration::from_millis(150));
            stage.on(Event::CallFailed(Failure::Answered));
        }
        backoffs.push(stage.backoff().as_secs());
        stage.step();
        stage.on(Event::Connected);
        stage.step();
        stage.on(Event::ProbeSucceeded);
    }
    assert_eq!(backoffs, [1, 2, 4, 8]);
}

#[test]
fn one_failure_in_probation_ejects_again() {
    let mut stage = Stage::new();
    for _ in 0..2 {
        stage.step();
        stage.on(Event::DialFailed(Failure::Refused));
    }
    stage.step();
    stage.on(Event::DialFailed(Failure::Silent));
    assert_eq!(stage.backoff(), Duration::from_secs(2));
}

#[test]
fn calls_that_fail_together_are_one_piece_of_evidence() {
    let mut stage = Stage::healthy();
    for _ in 0..50 {
        stage.on(Event::CallFailed(Failure::Answered));
    }
    assert_eq!(stage.state(), State::Suspect { failures: 1 });
    assert_eq!(stage.machine.next(), Some((stage.now, Todo::Probe)), "and asks for a probe at once");
    stage.on(Event::CallSucceeded);
    assert_eq!(stage.state(), State::Healthy);
}

#[test]
fn failed_calls_eject_but_a_success_between_them_clears() {
    let mut stage = Stage::healthy();
    for _ in 0..10 {
        stage.pass(Duration::from_secs(1));
        stage.on(Event::CallFailed(Failure::Answered));
        stage.on(Event::CallSucceeded);
    }
    assert!(stage.state().is_usable());
    for _ in 0..3 {
        stage.pass(Duration::from_secs(1));
        stage.on(Event::CallFailed(Failure::Answered));
    }
    assert!(matches!(stage.state(), State::Ejected { .. }));
}

#[test]
fn a_good_call_does_not_outweigh_a_failed_probe() {
    let mut stage = Stage::healthy();
    stage.step();
    stage.on(Event::ProbeFailed(Failure::Answered));
    stage.on(Event::CallSucceeded);
    assert_eq!(stage.state(), State::Suspect { failures: 1 });
}

#[test]
fn a_connection_closed_by_age_is_replaced_at_once_without_suspicion() {
    let mut stage = Stage::healthy();
    stage.pass(Duration::from_secs(3600));
    let lost = stage.now;
    stage.on(Event::ConnectionLost);
    assert_eq!(stage.step(), Todo::Dial);
    stage.on(Event::Connected);
    assert_eq!(stage.step(), Todo::Probe);
    stage.on(Event::ProbeSucceeded);
    assert_eq!(stage.now, lost);
    assert_eq!(stage.state(), State::Healthy);
}

#[test]
fn a_connection_that_ends_as_soon_as_it_is_made_is_not_dialled_in_a_spin() {
    let mut stage = Stage::healthy();
    for _ in 0..10 {
        stage.on(Event::ConnectionLost);
        stage.step();
        stage.on(Event::Connected);
        stage.step();
        stage.on(Event::ProbeSucceeded);
    }
    assert!(stage.now - stage.start >= Duration::from_secs(9));
}

#[test]
fn every_sequence_of_events_leaves_something_to_do() {
    let events = [
        Event::Connected,
        Event::DialFailed(Failure::Refused),
        Event::ProbeSucceeded,
        Event::ProbeFailed(Failure::Silent),
        Event::CallSucceeded,
        Event::CallFailed(Failure::Broken),
        Event::ConnectionLost,
    ];
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..200 {
        let mut stage = Stage::new();
        for _ in 0..200 {
            stage.pass(Duration::from_millis(rng.random_range(0..500)));
            let under_way =
                if stage.machine.next().is_some() && rng.random_bool(0.5) { Some(stage.step()) } else { None };
            // An attempt ends in one of its own outcomes; calls and the connection speak at any time.
            let of_attempt = match under_way {
                Some(Todo::Dial) => Some(events[rng.random_range(0..2)]),
                Some(Todo::Probe) => Some(events[rng.random_range(2..4)]),
                None => None,
            };
            stage.on(events[rng.random_range(4..7)]);
            if let Some(event) = of_attempt {
                stage.on(event);
            }
            assert!(stage.machine.next().is_some(), "{:?}", stage.machine);
        }
    }
}
