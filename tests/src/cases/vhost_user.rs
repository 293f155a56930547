//! Devices that another process serves: what a guest does to a shared directory is done, over reboots, and with the daemon
//! killed under it; daemons that cannot be had are refused.

use crate::host::HostSpec;
use crate::suite::{Case, Ctx, GuestInitrd, Interactive, QUIET, TestResult, case, ensure};

pub(super) fn all() -> Vec<Case> {
    let host = HostSpec::default;
    vec![
        case("vhost-user/a shared directory, over a reboot, its daemon killed under traffic", host(), shared),
        case("vhost-user/a disk of QEMU's storage daemon, which is killed as the guest writes", host(), disk),
        case("long/TCP both ways through a card of passt, over a reboot", host(), network),
        case("vhost-user/daemons that cannot be had", host(), refused),
    ]
}

const MOUNT: &str = "mkdir -p /share; mount -t virtiofs share /share || echo cannot mount; cd /share;";
/// One checksum of all names, kinds and contents.
const TREE: &str = "(find . | sort; find . -type l | sort | xargs -n 1 readlink; \
                    find . -type f | sort | xargs cat) | md5sum | sed s/^/tree\\ /";

/// The first boot changes the tree; the second has its daemon killed as it writes, and mounts anew.
const SCRIPT: &str = r"
    MOUNT
    TREE
    if [ ! -e moved/by-guest ]; then
        mkdir moved
        head -c 100000 /dev/urandom > new && sync new && mv new moved/by-guest
        echo before > replaced; echo after > other; mv other replaced; cat replaced
        ln replaced linked; rm replaced; cat linked; ln -s linked pointer; cat pointer
        echo unlinked but open > open; exec 3< open; rm open; cat <&3; exec 3<&-
        mkdir gone; rmdir gone; mv d1 d1.moved; truncate -s 5 d2/f1; echo appended >> d2/f2
        dd if=/dev/zero of=holes bs=4096 seek=9 count=1 conv=fsync 2>/dev/null; ls -l holes | grep -c 40960
        rm -r d3; sync; TREE
        echo changed; read what; reboot -f
    fi
    echo traffic; while dd if=/dev/zero of=traffic bs=64k count=16 conv=fsync 2>/dev/null; do echo written; done
    echo interrupted
    cd /; umount /share && echo unmounted
    MOUNT
    rm -f traffic; TREE
    echo complete; poweroff -f";

fn shared(ctx: &Ctx) -> TestResult {
    let virtiofsd = ctx.daemon("virtiofsd")?;
    let script = SCRIPT.replace("MOUNT", MOUNT).replace("TREE", TREE);
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, &script)?.build()?)?;
    let make = "mkdir -p /tmp/share && cd /tmp/share && for d in $(seq 4); do mkdir d$d; for f in $(seq 6); do \
                head -c $((d * f * 999)) /dev/urandom > d$d/f$f; done; done; \
                head -c 200000 /dev/urandom > large; : > empty; ln -s d1/f1 link; : > \"$(seq -s - 70)\"";
    ctx.run(make).expect_success()?;
    let tree = || -> TestResult<String> {
        let sum = ctx.run(&format!("cd /tmp/share; {TREE}")).expect_success()?;
        Ok(sum.stdout.trim().to_owned())
    };
    let start = || -> TestResult<Interactive<'_>> {
        let daemon =
            format!("{virtiofsd} --socket-path /tmp/fs.sock --shared-dir /tmp/share --sandbox chroot 2>&1");
        let mut daemon = ctx.run(&daemon).deadline(400).start()?;
        daemon.wait_for("Waiting for vhost-user socket connection")?;
        Ok(daemon)
    };
    let daemon = start()?;
    let vmm = format!(
        "vmm run --fs socket=/tmp/fs.sock,tag=share,queues=1,queue-size=256 --memory 128M {QUIET} --initrd /tmp/guest.cpio 2>&1"
    );
    let mut guest = ctx.run(&vmm).deadline(400).start()?;
    let before = tree()?;
    let said = guest.wait_for("\nchanged")?;
    let after = tree()?;
    ensure!(
        said.contains(&before) && said.contains(&after),
        "not the host's tree, {before}, {after}: {said}"
    );
    for line in ["after\r\nafter\r\nafter\r\nunlinked but open\r\n", "\r\n1\r\n"] {
        ensure!(said.contains(line), "no {line:?}: {said}");
    }
    guest.send("on\n");
    let said = guest.wait_for("\ntraffic")?;
    ensure!(said.contains(&after), "not the host's tree after a reboot, {after}: {said}");
    guest.wait_for("written")?;
    daemon.kill()?;
    guest.wait_for("no daemon serves the device")?;
    let daemon = start()?;
    guest.wait_for("a daemon serves the device again")?;
    // What it had open the new daemon does not know; what it mounts anew it does.
    guest.wait_for("interrupted")?;
    let said = guest.wait_for("\ncomplete")?;
    ensure!(said.contains("unmounted"), "{said}");
    ensure!(said.contains(&after), "not the host's tree with another daemon, {after}: {said}");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_lacks("virtio device stops")?;
    // It ends with its connection.
    daemon.finish()?;
    ctx.run("rm -r /tmp/share /tmp/fs.sock* /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// One request at a time, so that the daemon's order is the guest's.
const DISK: &str = r"
    echo vda queues $(ls /sys/block/vda/mq | wc -l) sectors $(cat /sys/block/vda/size) ro $(cat /sys/block/vda/ro)
    head -c 131072 /dev/urandom > /data
    echo 'data' $(md5sum < /data)
    for i in $(seq 0 15); do
        dd if=/data of=/dev/vda bs=64k seek=$((i * 2)) oflag=direct 2>/dev/null && echo written || echo lost a write
    done
    sync; echo 'read' $(head -c 2097152 /dev/vda | md5sum)
    blkdiscard -o 0 -l 131072 /dev/vda && echo discarded
    echo complete; poweroff -f";

fn disk(ctx: &Ctx) -> TestResult {
    let storage_daemon = ctx.daemon("qemu-storage-daemon")?;
    ctx.put("/tmp/guest.cpio", &GuestInitrd::with_script(ctx.artefacts, DISK)?.build()?)?;
    let start = format!(
        "{storage_daemon} --daemonize --pidfile /tmp/daemon.pid \
         --blockdev driver=file,node-name=disk,filename=/tmp/disk.img,discard=unmap \
         --export type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=2,addr.type=unix,addr.path=/tmp/blk.sock"
    );
    ctx.run(&format!("truncate -s 2M /tmp/disk.img && {start}")).expect_success()?;
    let vmm = format!(
        "vmm run --disk vhost-user=/tmp/blk.sock,queues=2 --memory 128M --cpus 2 {QUIET} --initrd /tmp/guest.cpio 2>&1"
    );
    let mut guest = ctx.run(&vmm).deadline(400).start()?;
    guest.wait_for("vda queues 2 sectors 4096 ro 0")?;
    let data = guest.word_after("data ")?;
    guest.wait_for("written")?;
    ctx.run("kill -9 $(cat /tmp/daemon.pid)").expect_success()?;
    guest.wait_for("no daemon serves the device")?;
    ctx.run(&start).expect_success()?;
    guest.wait_for("a daemon serves the device again")?;
    guest.wait_for("written")?;
    let read = guest.word_after("read ")?;
    // While the guest is there, since what it discards is gone.
    let said = guest.wait_for("\ncomplete")?;
    ensure!(said.contains("discarded"), "{said}");
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    guest.stdout_lacks("lost a write")?;
    guest.stdout_lacks("virtio device stops")?;
    // 16 times what was written at once, but for the first, which was discarded.
    let whole = "for i in $(seq 16); do cat /tmp/piece; done | md5sum; md5sum < /tmp/piece; \
                 cmp -n 131072 /tmp/disk.img /dev/zero && echo zeros";
    let image = ctx.run(&format!("tail -c 131072 /tmp/disk.img > /tmp/piece; {whole}")).expect_success()?;
    for part in [&read, &data, "zeros"] {
        ensure!(image.stdout.contains(part), "no {part}: {}", image.stdout);
    }
    ctx.run("kill $(cat /tmp/daemon.pid); rm /tmp/disk.img /tmp/piece /tmp/guest.cpio").expect_success()?;
    Ok(())
}

/// Shell: in a root as an installed system has it. passt makes itself namespaces and another root, which the kernel refuses to
/// processes in the initramfs or below a chroot.
const INSTALLED: &str = "mount -t tmpfs root /tmp/passt && cd /tmp/passt && mkdir -m 1777 tmp && \
    for d in lab lib lib64 etc dev proc tmp/run; do mkdir $d && mount --bind /$d $d || exit 1; done; \
    ip link set lo up && mount --move . / && exec chroot .";

/// What the guest connects to at 169.254.2.2 passt connects to at the host's loopback, where no interface is up that it could show the
/// guest in its place.
fn network(ctx: &Ctx) -> TestResult {
    let (passt, exercise) = (ctx.daemon("passt")?, ctx.program("exercise")?);
    let script = "ip link set eth0 up; ip addr add 169.254.2.1/16 dev eth0
        echo the card is $(cat /sys/class/net/eth0/address)
        exercise connect 169.254.2.2 5000 2 64; exercise connect 169.254.2.2 5001 2
        read what; [ $what != reboot ] || reboot -f; poweroff -f";
    let initrd = GuestInitrd::with_script(ctx.artefacts, script)?;
    ctx.put("/tmp/guest.cpio", &initrd.file("bin/exercise", &ctx.get(&exercise)?)?.build()?)?;
    ctx.run("mkdir -m 1777 -p /tmp/passt /tmp/run").expect_success()?;
    let daemon = format!(
        "exec unshare -m sh -c '{INSTALLED} {passt} --vhost-user --foreground --socket /tmp/run/net.sock' 2>&1"
    );
    let mut daemon = ctx.run(&daemon).deadline(400).start()?;
    daemon.wait_for("You can start qemu with")?;
    let vmm = format!(
        "vmm run --net vhost-user=/tmp/run/net.sock,mac=02:00:5e:10:00:01 --memory 128M {QUIET} --initrd /tmp/guest.cpio"
    );
    let mut guest = ctx.run(&vmm).deadline(400).start()?;
    for end in ["reboot\n", "poweroff\n"] {
        let serve = |port: u32, count: u32| -> TestResult<Interactive<'_>> {
            let mut server = ctx.run(&format!("{exercise} serve {port} 2 {count}")).deadline(240).start()?;
            server.wait_for(&format!("listening on {port}"))?;
            Ok(server)
        };
        let (many, one) = (serve(5000, 64)?, serve(5001, 1)?);
        guest.wait_for("the card is 02:00:5e:10:00:01")?;
        for (server, said) in [(many, "2 MiB each way over 64"), (one, "2 MiB each way over 1")] {
            guest.wait_for(&format!("exercised: {said} connections"))?;
            server.finish()?.stdout_contains(&format!("exercised: {said} connections"))?;
        }
        guest.send(end);
    }
    let guest = guest.finish()?;
    ensure!(guest.status == 0, "it ended with status {}", guest.status);
    ensure!(!guest.stderr.contains("no daemon"), "{}", guest.stderr);
    daemon.kill()?;
    ctx.run("rm -r /tmp/passt /tmp/run /tmp/guest.cpio").expect_success()?;
    Ok(())
}

fn refused(ctx: &Ctx) -> TestResult {
    // All that is wrong is said at once.
    let run = ctx.run("vmm run --fs socket=/tmp/none,tag=a --fs /etc/passwd,tag=b").expect_status(3)?;
    for message in ["there is no socket /tmp/none", "/etc/passwd is not a socket"] {
        run.stderr_contains(&format!("error: {message}\n   help: "))?;
    }
    let wrong = ctx.run("vmm run --fs /tmp/none,tag=t --fs /etc/passwd,tag=t,queues=0").expect_status(2)?;
    for message in ["--fs: the tag `t` is given twice", "--fs tag=t: a device cannot have 0 request queues"] {
        wrong.stderr_contains(message)?;
    }
    Ok(())
}
