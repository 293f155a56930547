//! From the table to what the kernel runs.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::Role;
use crate::table::{REFUSED, Refused, Rule, TABLE, When};

/// What `role` may do; all else is a violation.
pub(crate) fn of(role: Role) -> Result<BpfProgram, BackendError> {
    program(rules(role)?, SeccompAction::Trap, SeccompAction::Allow)
}

/// Refuses what the table calls [refused](REFUSED) for `role`, as the kernel would refuse it. Goes under the filter of the role,
/// which must let it through: of two filters the stricter one counts.
pub(crate) fn refusals(role: Role) -> Result<Vec<BpfProgram>, BackendError> {
    let refused = REFUSED.iter().filter(|it| it.by == role);
    let one = |it: &Refused| {
        let Rule { call, when, .. } = it.call;
        let rules = condition(when)?.map(|condition| SeccompRule::new(vec![condition])).transpose()?;
        let rules = BTreeMap::from([(call, rules.into_iter().collect())]);
        program(rules, SeccompAction::Allow, SeccompAction::Errno(it.errno as u32))
    };
    refused.map(one).collect()
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

fn program(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, these, TargetArch::x86_64)?.try_into()
}

/// The table as seccompiler wants it: no rule for a call means that its arguments do not matter.
fn rules(role: Role) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let all = TABLE.iter().filter(|row| row.roles.iter().any(|it| role.may(*it)));
    let mut free = Vec::new();
    for Rule { call, when, .. } in all.flat_map(|row| row.rules) {
        let rules = rules.entry(*call).or_default();
        match condition(*when)? {
            Some(condition) => rules.push(SeccompRule::new(vec![condition])?),
            None => free.push(*call),
        }
    }
    free.iter().for_each(|call| drop(rules.insert(*call, Vec::new())));
    Ok(rules)
}

fn condition(when: When) -> Result<Option<SeccompCondition>, BackendError> {
    let (argument, length, compare, value) = match when {
        When::Always => return Ok(None),
        When::Is(argument, value) => (argument, Length::Dword, Compare::Eq, value),
        When::Bits(argument, mask, value) => (argument, Length::Dword, Compare::MaskedEq(mask), value),
    };
    SeccompCondition::new(argument, length, compare, value).map(Some)
}

#[cfg(test)]
#[path = "filter_test.rs"]
mod tests;
