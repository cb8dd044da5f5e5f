//! A day and time of day as the caller knows it, spelled as templates ask for it.
//!
//! Some templates write today's date into the system prompt. Libraries of this project read no clock, so whoever wants
//! a date there says which: then a conversation can be rendered again next year to the same tokens.
//!
//! ```
//! use formwork_recipes::chat::Date;
//! let date = Date::new(2026, 2, 7)?;
//! assert_eq!(date.format("%d %b %Y, a %A")?, "07 Feb 2026, a Saturday");
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::fmt::Write as _;

use formwork_module::{Error, Result};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment in the calendar, without a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: u32,
    day: u32,
    /// Hours, minutes and seconds.
    time: [u32; 3],
}

impl Date {
    /// A day of the Gregorian calendar, at midnight. Years are 1 to 9999.
    ///
    /// # Errors
    /// A day that the calendar does not have.
    pub fn new(year: i64, month: u32, day: u32) -> Result<Self> {
        let found = format!("{year:04}-{month:02}-{day:02}");
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        match (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=days).contains(&day) {
            true => Ok(Self { year, month, day, time: [0; 3] }),
            false => Err(Error::invalid("date", "a day of the calendar", found)),
        }
    }

    /// The day and time so many seconds after 1970 began, as clocks count (before year 10000).
    ///
    /// # Errors
    /// A time that is later.
    pub fn from_unix(seconds: u64) -> Result<Self> {
        // Days since 1 March of year 0: leap days come last, and eras of 400 years repeat.
        let days = (seconds / 86_400) as i64 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * from_march + 2) / 5 + 1) as u32;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 } as u32;
        let time = (seconds % 86_400) as u32;
        let date = Self::new(era * 400 + year + i64::from(month <= 2), month, day)?;
        Ok(Self { time: [time / 3600, time / 60 % 60, time % 60], ..date })
    }

    /// The day of the year, from 1.
    fn of_year(self) -> i64 {
        let before = |month: u32| (1..month).map(|m| self.days_of(m)).sum::<i64>();
        before(self.month) + i64::from(self.day)
    }

    fn days_of(self, month: u32) -> i64 {
        (28..=31).rev().find(|&day| Self::new(self.year, month, day).is_ok()).map_or(0, i64::from)
    }

    /// The day of the week, Sunday is 0.
    fn of_week(self) -> usize {
        let before = self.year - 1;
        ((before * 365 + before / 4 - before / 100 + before / 400 + self.of_year()) % 7) as usize
    }

    /// The date as `strftime` spells it in English: `%Y %y %m %d %e %j %B %b %A %a %H %I %M %S %p %F %T %%`, and `%-d`
    /// and its like without leading zeros.
    ///
    /// # Errors
    /// Any other `%`.
    pub fn format(self, format: &str) -> Result<String> {
        let (mut out, mut rest) = (String::new(), format.chars());
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            let is_bare = code == Some('-');
            if is_bare {
                code = rest.next();
            }
            let [hour, minute, second] = self.time;
            let twelve = (hour + 11) % 12 + 1;
            let mut number = |value: i64, width: usize| {
                let width = if is_bare { 0 } else { width };
                write!(out, "{value:0width$}")
            };
            let written = match code {
                Some('Y') => number(self.year, 4),
                Some('y') => number(self.year % 100, 2),
                Some('m') => number(i64::from(self.month), 2),
                Some('d') => number(i64::from(self.day), 2),
                Some('j') => number(self.of_year(), 3),
                Some('H') => number(i64::from(hour), 2),
                Some('I') => number(i64::from(twelve), 2),
                Some('M') => number(i64::from(minute), 2),
                Some('S') => number(i64::from(second), 2),
                Some('e') => write!(out, "{:2}", self.day),
                Some('B') => out.write_str(MONTHS[self.month as usize - 1]),
                Some('b') => out.write_str(&MONTHS[self.month as usize - 1][..3]),
                Some('A') => out.write_str(DAYS[self.of_week()]),
                Some('a') => out.write_str(&DAYS[self.of_week()][..3]),
                Some('p') => out.write_str(if hour < 12 { "AM" } else { "PM" }),
                Some('F') => write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day),
                Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
                Some('%') => out.write_str("%"),
                other => {
                    let found = other.map_or("% at its end".to_owned(), |c| format!("%{c}"));
                    return Err(Error::invalid("strftime", "one of %Y %m %d %B %b %A %a %H %M %S", found));
                }
            };
            written.expect("a string takes every text");
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_spelled_as_strftime_does() {
        // Python's datetime says the same of each.
        let check = |seconds: u64, expected: &str| {
            let date = Date::from_unix(seconds).unwrap();
            assert_eq!(date.format("%a %d %b %Y %H:%M:%S %j %-d %I%p %y").unwrap(), expected, "{seconds}");
        };
        check(0, "Thu 01 Jan 1970 00:00:00 001 1 12AM 70");
        check(951_782_399, "Mon 28 Feb 2000 23:59:59 059 28 11PM 00");
        check(951_825_600, "Tue 29 Feb 2000 12:00:00 060 29 12PM 00");
        check(1_709_251_199, "Thu 29 Feb 2024 23:59:59 060 29 11PM 24");
        check(4_107_542_400, "Mon 01 Mar 2100 00:00:00 060 1 12AM 00");
    }

    #[test]
    fn days_that_no_calendar_has_are_refused() {
        for (year, month, day) in [(2023, 2, 29), (2100, 2, 29), (2024, 4, 31), (2024, 13, 1), (0, 1, 1)] {
            assert!(Date::new(year, month, day).is_err(), "{year}-{month}-{day}");
        }
        assert!(Date::from_unix(u64::MAX).is_err());
        assert!(Date::new(2024, 2, 29).unwrap().format("%Q").is_err());
        assert!(Date::new(2024, 2, 29).unwrap().format("at 5%").is_err());
    }
}
