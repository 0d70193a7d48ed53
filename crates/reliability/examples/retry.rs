//! A place that is down for a while: calls are tried again, the breaker opens, one probe finds it well again. All of it by a
//! clock that stands still but for waiting, so that it takes no time.

use std::time::Duration;

use plimsoll_reliability::retry::{ErrorClass, Pace, Policy, SeededJitter, TestTime, Time, Why, retry};

fn main() {
    let time = TestTime::default();
    let calls = retry(Policy::default(), &Pace::new(time.clone(), SeededJitter::new(7)));
    let well_again = Duration::from_secs(40);
    for round in 1.. {
        let answer = calls.call_by(
            |_: &&str| ErrorClass::Transient,
            |attempt| {
                println!("{:7.3} s  round {round}, attempt {}", time.now().as_secs_f64(), attempt.number);
                if time.now() < well_again { Err("down") } else { Ok("well") }
            },
        );
        match answer {
            Ok(word) => {
                println!("{:7.3} s  {word}", time.now().as_secs_f64());
                break;
            }
            Err(gave_up) => {
                println!("{:7.3} s  {gave_up}", time.now().as_secs_f64());
                let rest =
                    if let Why::Held(not_now) = gave_up.why { not_now.after } else { Duration::from_secs(1) };
                time.sleep(rest);
            }
        }
    }
}
