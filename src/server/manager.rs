//! The service manager that started the worker, such as systemd with `Type=notify`: reports that the worker is ready,
//! reloads or stops, and feeds the watchdog. Touches the socket that `NOTIFY_SOCKET` names and a timer; without that
//! variable, nothing.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use sd_notify::NotifyState;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Pings in each period of the watchdog: one that is late is no reason to be killed.
const PINGS: u32 = 3;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    timer: Option<OwnedFd>,
    is_ready: Cell<bool>,
}

impl ServiceManager {
    /// The one of the environment. Its timer expires at once, then as often as the watchdog needs it.
    pub fn from_env() -> io::Result<Self> {
        let timer = match std::env::var_os("NOTIFY_SOCKET") {
            Some(_) => Some(start_timer(sd_notify::watchdog_enabled().map(|period| period / PINGS))?),
            None => None,
        };
        Ok(Self { timer, is_ready: Cell::new(false) })
    }

    /// Readable when [`Self::tick`] has to be called.
    pub fn timer(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().map(AsFd::as_fd)
    }

    /// Reports that the caller is alive: the loop that accepts connections, so that the watchdog sees when it hangs.
    pub fn tick(&self) {
        if let Some(timer) = &self.timer {
            let _ = rustix::io::read(timer, &mut [0; 8]); // or it stays readable
        }
        if self.is_ready.replace(true) {
            self.notify(&[NotifyState::Watchdog]);
        } else {
            self.notify(&[NotifyState::Ready, NotifyState::Watchdog]);
        }
    }

    /// Reports that the worker reloads until `reload` returns.
    pub fn reloading(&self, reload: impl FnOnce()) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("cannot read the monotonic clock: {error}"),
        }
        reload();
        self.notify(&[NotifyState::Ready]);
    }

    /// Reports that the worker finishes what is in flight, and ends.
    pub fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]);
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if self.timer.is_none() {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            log::warn!("cannot notify the service manager: {error}. Hint: check NOTIFY_SOCKET");
        }
    }
}

/// Expires at once, and then at each interval, if there is one.
fn start_timer(interval: Option<Duration>) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let once = Timespec { tv_sec: 0, tv_nsec: 1 };
    let interval = interval.and_then(|interval| Timespec::try_from(interval).ok());
    let times = Itimerspec { it_value: once, it_interval: interval.unwrap_or_default() };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}
