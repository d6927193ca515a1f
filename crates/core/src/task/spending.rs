//! Spending: budgets and what is used of them, in whole numbers that never wrap.

use super::{Budget, Dimension, Spending};

// === impl Spending ===

impl Spending {
    /// Returns both together; nothing where that is more than a number holds.
    pub fn plus(&self, more: &Self) -> Option<Self> {
        self.with(more, u64::checked_add)
    }

    /// Returns what is left when some of it is given back; nothing where that is more than there is.
    pub fn minus(&self, less: &Self) -> Option<Self> {
        self.with(less, u64::checked_sub)
    }

    /// Returns what it says of a dimension; nothing for one that no budget has.
    pub fn of(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::Calls => Some(self.calls),
            Dimension::Cost => Some(self.cost),
            Dimension::Amount => Some(self.amount),
            Dimension::Bytes => Some(self.bytes),
            Dimension::Irreversible => Some(self.irreversible),
            _ => None,
        }
    }

    fn with(&self, other: &Self, join: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        Some(Self {
            amount: join(self.amount, other.amount)?,
            bytes: join(self.bytes, other.bytes)?,
            calls: join(self.calls, other.calls)?,
            cost: join(self.cost, other.cost)?,
            irreversible: join(self.irreversible, other.irreversible)?,
        })
    }
}

// === impl Budget ===

impl Budget {
    /// The dimensions of a budget, in the order in which they are tried.
    pub const DIMENSIONS: [Dimension; 5] = [
        Dimension::Calls,
        Dimension::Cost,
        Dimension::Amount,
        Dimension::Bytes,
        Dimension::Irreversible,
    ];

    /// Returns the limit of a dimension, where there is one.
    pub fn limit(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::Calls => self.calls,
            Dimension::Cost => self.cost,
            Dimension::Amount => self.amount,
            Dimension::Bytes => self.bytes,
            Dimension::Irreversible => self.irreversible,
            _ => None,
        }
    }

    /// Returns the first dimension that using `more` would exceed where `spent` is used already.
    pub fn exhausted_by(&self, spent: &Spending, more: &Spending) -> Option<Dimension> {
        Self::DIMENSIONS.into_iter().find(|dimension| {
            let (Some(limit), Some(spent), Some(more)) = (
                self.limit(*dimension),
                spent.of(*dimension),
                more.of(*dimension),
            ) else {
                return false;
            };
            // What uses nothing of it is not stopped by it, even where it is overdrawn.
            more > 0 && spent.checked_add(more).is_none_or(|all| all > limit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exhausted_exactly_when_it_would_be_exceeded() {
        let budget = Budget {
            calls: Some(2),
            amount: Some(100),
            ..Budget::default()
        };
        let spending = |calls, amount| Spending {
            amount,
            calls,
            ..Spending::default()
        };
        for (spent, more, expected) in [
            (spending(0, 0), spending(1, 100), None),
            (spending(1, 0), spending(1, 101), Some(Dimension::Amount)),
            (spending(2, 0), spending(1, 101), Some(Dimension::Calls)),
            (spending(2, 0), spending(0, 0), None),
            (
                spending(u64::MAX, 0),
                spending(1, 0),
                Some(Dimension::Calls),
            ),
        ] {
            assert_eq!(
                budget.exhausted_by(&spent, &more),
                expected,
                "{spent:?} {more:?}"
            );
        }
        let huge = Spending {
            bytes: u64::MAX,
            cost: u64::MAX,
            ..Spending::default()
        };
        assert_eq!(Budget::default().exhausted_by(&huge, &huge), None);
        assert_eq!(huge.plus(&huge), None);
        assert_eq!(spending(1, 1).minus(&spending(2, 0)), None);
        let both = spending(1, 2).plus(&spending(3, 4));
        assert_eq!(both, Some(spending(4, 6)));
        assert_eq!(
            both.and_then(|both| both.minus(&spending(3, 4))),
            Some(spending(1, 2))
        );
    }
}
