use super::*;

#[test]
fn the_table_sums_up_and_lists_the_dearest_cases_first() {
    let cost = |cpu, wall| Cost { cpu: Duration::from_secs(cpu), wall: Duration::from_secs(wall) };
    let mut costs = Costs::default();
    costs.step("format", cost(1, 2));
    costs.boot(cost(3, 4));
    costs.case("cheap", cost(1, 9));
    let mut more = Costs::default();
    more.boot(cost(3, 4));
    more.case("dear", cost(5, 6));
    costs.add(more);
    assert_eq!(
        costs.table(),
        "   CPU s        s\n     1.0      2.0  format\n     6.0      8.0  2 hosts booted\n     6.0     15.0  2 cases\n\
         \x20    5.0      6.0    dear\n     1.0      9.0    cheap\n"
    );
}
