//! `vmm bind` and `vmm unbind`: devices change hands, a line for each.

use devices::pci::PciAddress;
use vfio::{BindError, Binder, Bound, Host, OpenNodes};
use vmm::{Class, Problem, Problems};

use crate::args::BindArgs;
use crate::report;
use crate::stderr::say;

/// Binds devices to vfio-pci; returns the exit code. If anything speaks against one of them, none is touched.
pub(crate) fn bind(args: &BindArgs) -> Result<u8, Problems> {
    let (binder, addresses) = start(args)?;
    let objections: Vec<BindError> =
        addresses.iter().flat_map(|address| binder.objections(*address, args.force)).collect();
    if !objections.is_empty() {
        return Err(all(objections));
    }
    let code = each(&addresses, |address| binder.bind(address))?;
    note_what_is_left(&addresses);
    Ok(code)
}

/// What keeps bound devices from being passed through all the same, such as others of their groups.
fn note_what_is_left(addresses: &[PciAddress]) {
    let host = Host::default();
    let open = OpenNodes::scan(&host);
    for device in addresses.iter().filter_map(|address| host.find(*address).ok()) {
        for obstacle in host.readiness(&device, &open).obstacles {
            say!("{}", report::text("note", &obstacle));
        }
    }
}

/// Gives devices back; returns the exit code. If a machine has one of them, none is touched.
pub(crate) fn unbind(args: &BindArgs) -> Result<u8, Problems> {
    let (binder, addresses) = start(args)?;
    let held = |address: &PciAddress| if args.force { None } else { binder.held(*address).err() };
    let objections: Vec<BindError> = addresses.iter().filter_map(held).collect();
    if !objections.is_empty() {
        return Err(all(objections));
    }
    each(&addresses, |address| binder.unbind(address))
}

fn start(args: &BindArgs) -> Result<(Binder, Vec<PciAddress>), Problems> {
    let binder = Binder::new(Host::default()).map_err(Problem::of(Class::Host))?;
    let addresses = binder.expand(&args.devices, args.group).map_err(all)?;
    Ok((binder, addresses))
}

fn each(
    addresses: &[PciAddress],
    act: impl Fn(PciAddress) -> Result<Bound, BindError>,
) -> Result<u8, Problems> {
    let mut problems = Problems::default();
    for address in addresses {
        match act(*address) {
            Ok(bound) => report::print(&line(&bound)),
            Err(error) => problems.add(Class::Host, error),
        }
    }
    if problems.0.is_empty() { Ok(0) } else { Err(problems) }
}

/// `0000:01:00.0: vfio-pci (was nvme)`
fn line(bound: &Bound) -> String {
    let Bound { address, driver, former, changed } = bound;
    let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "no driver".to_owned());
    if *changed {
        format!("{address}: {} (was {})\n", name(driver), name(former))
    } else {
        format!("{address}: {}, as before\n", name(driver))
    }
}

fn all(errors: Vec<BindError>) -> Problems {
    let mut problems = Problems::default();
    errors.into_iter().for_each(|error| problems.add(Class::Host, error));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_became_of_a_device() {
        let driver = |name: &str| Some(name.to_owned());
        let address = "01:00.0".parse().unwrap();
        let bound = Bound { address, driver: driver("vfio-pci"), former: driver("nvme"), changed: true };
        assert_eq!(line(&bound), "0000:01:00.0: vfio-pci (was nvme)\n");
        assert_eq!(line(&Bound { changed: false, ..bound.clone() }), "0000:01:00.0: vfio-pci, as before\n");
        let back = Bound { driver: None, former: driver("vfio-pci"), ..bound };
        assert_eq!(line(&back), "0000:01:00.0: no driver (was vfio-pci)\n");
    }
}
