//! Conditions such as `disposition=ANSWERED`: which records count, and which are preferred for a field. Pure.

use crate::admin::load::duration::{Point, decimal};
use crate::admin::load::value::{Columns, Template, Values};
use regex::Regex;
use std::cmp::Ordering;

/// A comparison of a column.
#[derive(Debug, Clone)]
pub struct Condition {
    column: usize,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// Whether it is to be equal, and to what.
    Equal(bool, Template),
    /// Whether it is to match.
    Match(bool, Regex),
    /// The orders that are allowed, of numbers.
    Order(&'static [Ordering], Template),
}

/// Longer ones first, because some start like others.
const OPERATORS: [&str; 8] = ["!=", "!~", ">=", "<=", "=", "~", ">", "<"];

impl Condition {
    /// A column's name, an operator, and what to compare with, in which columns stand in braces.
    pub fn parse(text: &str, columns: &mut Columns) -> Result<Self, String> {
        // What is in brackets belongs to a path.
        let mut depth = 0;
        let found = text
            .char_indices()
            .filter(|(at, character)| {
                depth += i32::from(*character == '[') - i32::from(*character == ']');
                *at > 0 && depth == 0
            })
            .find_map(|(at, _)| OPERATORS.iter().find(|&&operator| text[at..].starts_with(operator)).map(|o| (at, *o)));
        let Some((at, operator)) = found else {
            return Err(format!("{text:?} is no condition: write a column, one of = != ~ !~ < <= > >=, and a value"));
        };
        let column = columns.place(&text[..at]);
        let right = text[at + operator.len()..].trim();
        let template = |columns: &mut Columns| Template::parse(right, columns);
        let regex = || Regex::new(right).map_err(|error| format!("{text:?} has no regular expression: {error}"));
        let test = match operator {
            "=" => Test::Equal(true, template(columns)?),
            "!=" => Test::Equal(false, template(columns)?),
            "~" => Test::Match(true, regex()?),
            "!~" => Test::Match(false, regex()?),
            ">" => Test::Order(&[Ordering::Greater], template(columns)?),
            "<" => Test::Order(&[Ordering::Less], template(columns)?),
            ">=" => Test::Order(&[Ordering::Greater, Ordering::Equal], template(columns)?),
            _ => Test::Order(&[Ordering::Less, Ordering::Equal], template(columns)?),
        };
        if let Test::Order(_, number) = &test {
            if number.columns().next().is_none() && decimal(&number.render(&Values::default()), Point::Either).is_none()
            {
                return Err(format!("{text:?} compares with something that is no number"));
            }
        }
        Ok(Self { column, test })
    }

    /// The columns that it reads.
    pub fn columns(&self) -> Vec<usize> {
        let right: Vec<usize> = match &self.test {
            Test::Equal(_, right) | Test::Order(_, right) => right.columns().collect(),
            Test::Match(..) => Vec::new(),
        };
        std::iter::once(self.column).chain(right).collect()
    }

    /// Whether it compares numbers.
    pub fn is_order(&self) -> bool {
        matches!(self.test, Test::Order(..))
    }

    /// The value, if it should be a number and is none.
    pub fn no_number<'v>(&self, values: &'v Values) -> Option<&'v str> {
        let value = values.get(self.column);
        Some(value)
            .filter(|value| self.is_order() && !value.trim().is_empty() && decimal(value, Point::Either).is_none())
    }

    pub fn column(&self) -> usize {
        self.column
    }

    /// Whether it holds. What is no number is neither less nor greater.
    pub fn holds(&self, values: &Values) -> bool {
        let left = values.get(self.column);
        match &self.test {
            Test::Equal(wanted, right) => (left.trim() == right.render(values).trim()) == *wanted,
            Test::Match(wanted, regex) => regex.is_match(left) == *wanted,
            Test::Order(allowed, right) => {
                let numbers = decimal(left, Point::Either).zip(decimal(&right.render(values), Point::Either));
                numbers.is_some_and(|(left, right)| allowed.contains(&left.cmp(&right)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, values: &[(&str, &str)]) -> bool {
        let mut columns = Columns::default();
        let condition = Condition::parse(condition, &mut columns).unwrap();
        let mut row = Values::default();
        for name in columns.names() {
            let value = values.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
            row.push(value.as_bytes());
        }
        condition.holds(&row)
    }

    #[test]
    fn each_operator_compares() {
        for (condition, value, expected) in [
            ("a=x", "x", true),
            ("a = x ", "x", true),
            ("a=x", "y", false),
            ("a!=", "", false),
            ("a!=", "x", true),
            ("a~^q[0-9]+$", "q12", true),
            ("a!~^q", "q12", false),
            ("a>0", "0.5", true),
            ("a>0", "0", false),
            ("a>0", "x", false),
            ("a>=10", "9", false),
            ("a>=10", "10.0", true),
            ("a<10", "9", true),
            ("a<=-1", "-1", true),
        ] {
            assert_eq!(holds(condition, &[("a", value)]), expected, "{condition} {value}");
        }
        assert!(holds("p[x=y].a!=", &[("p[x=y].a", "z")]));
        assert!(holds("a={b}", &[("a", "1.5"), ("b", "1.5")]) && !holds("a={b}", &[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn an_order_of_what_is_no_number_is_known() {
        let mut columns = Columns::default();
        for (condition, value, expected) in
            [("a>0", "0:00:05", Some("0:00:05")), ("a>0", "5", None), ("a>0", " ", None), ("a=0", "x", None)]
        {
            let condition = Condition::parse(condition, &mut columns).unwrap();
            assert_eq!(condition.no_number(&Values::of(&[value])), expected, "{value}");
        }
    }

    #[test]
    fn malformed_conditions_are_refused() {
        for wrong in ["", "a", "=x", "a~(", "a>x", "a={b"] {
            assert!(Condition::parse(wrong, &mut Columns::default()).is_err(), "{wrong}");
        }
    }
}
