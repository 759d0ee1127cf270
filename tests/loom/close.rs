//! The end of a loop against those who wake, stop or notify it: `process/shared.rs`. The kernel in `sys` ends a test that
//! writes to a closed descriptor.

use crate::error::Error;
use crate::{model, shared, start};

#[test]
fn nobody_writes_to_a_closed_descriptor() {
    model(3, || {
        let (shared, _) = shared(1);
        let handle = shared.names.handle(0);
        let waker = start(move || shared.wake(handle));
        shared.fall_asleep();
        shared.wake_up();
        shared.fall_asleep();
        shared.close();
        assert!(matches!(waker.join(), Ok(()) | Err(Error::BAD_FD)));
        assert_eq!(shared.wake(handle), Err(Error::BAD_FD));
        assert_eq!(shared.stop(), Err(Error::BAD_FD));
    });
}

#[test]
fn two_notify_while_the_loop_is_closed() {
    model(2, || {
        let (shared, _) = shared(1);
        let handle = shared.names.handle(0);
        let waker = start(move || shared.wake(handle));
        let stopper = start(move || shared.stop());
        shared.fall_asleep();
        shared.close();
        for result in [waker.join(), stopper.join()] {
            assert!(matches!(result, Ok(()) | Err(Error::BAD_FD)));
        }
        shared.close(); // a second one finds everything done
    });
}
