"""``-o``: the same options as in fstab, and those that mount(8) hands to everything."""

from __future__ import annotations

import pytest

from s3mount.config.mount_options import Chosen, split_items
from s3mount.config.options import OPTIONS
from s3mount.core.exits import Exit
from s3mount.errors import StartupError


def chosen(*texts: str) -> Chosen:
    """Return what the user chose with these ``-o`` arguments."""
    result = Chosen()
    for text in texts:
        result.add(text)
    return result


def refused(text: str) -> StartupError:
    """Return the error that the ``-o`` argument *text* meets."""
    with pytest.raises(StartupError) as caught:
        chosen(text)
    assert caught.value.exit_code == Exit.USAGE
    return caught.value


def test_every_option_of_the_table_is_known_with_dashes_and_with_underscores() -> None:
    """fstab's habit is the underscore, the command line's the dash."""
    for option in OPTIONS:
        item = option.name if option.is_switch else f"{option.name}="
        for name in {item, item.replace("-", "_")}:
            try:
                chosen(name)
            except StartupError as error:
                assert "no such option" not in error.cause, name


def test_values_are_parsed_as_on_the_command_line() -> None:
    """Sizes, times, modes and words."""
    assert chosen("memory=64M,ttl=1m,file_mode=0600,attributes=exact").values == {
        "memory_bytes": 64 * 1024**2,
        "ttl_s": 60.0,
        "file_mode": 0o600,
        "attributes": "exact",
    }


def test_ro_and_rw_are_read_only_and_its_opposite_and_the_last_one_counts() -> None:
    """As with mount(8)."""
    assert chosen("ro").values == {"read_only": True}
    assert chosen("ro,rw").values == {"read_only": False}
    assert chosen("rw", "ro").values == {"read_only": True}


def test_switches_take_yes_and_no() -> None:
    """allow_other=no undoes allow_other; a switch that turns something off stays a negation."""
    assert chosen("allow_other").values == {"allow_other": True}
    assert chosen("allow_other,allow_other=no").values == {"allow_other": False}
    assert chosen("no_verify_ssl").values == {"verify_ssl": False}
    assert chosen("no_verify_ssl=no").values == {"verify_ssl": True}


def test_nosuid_and_nodev_are_always_handed_to_the_kernel() -> None:
    """Whoever can write to the bucket must not gain privileges here."""
    assert tuple(chosen("ro").passed) == ("nosuid", "nodev")


def test_kernel_flags_are_handed_on_and_their_opposites_take_them_back() -> None:
    """The last one counts."""
    assert tuple(chosen("noexec,noatime,exec").passed) == ("nosuid", "nodev", "noatime")


def test_what_mount_and_systemd_write_into_fstab_is_accepted_and_means_nothing_here() -> None:
    """A line that works for other file systems works for this one."""
    text = (
        "defaults,rw,exec,relatime,_netdev,nofail,noauto,auto,user,users,x-systemd.automount,"
        "x-gvfs-show,comment=sshfs,X-mount.mkdir=0700"
    )
    assert chosen(text).values == {"read_only": False}


@pytest.mark.parametrize("item", ["suid", "dev"])
def test_set_uid_programs_and_devices_are_refused(item: str) -> None:
    """Not ignored: who writes suid expects it to work."""
    assert f"-o {item}" in refused(f"ro,{item}").thing


#: Every option of mount(8) for all file systems (util-linux 2.38 to 2.41), "=" where it takes a value.
OF_MOUNT_8 = [
    "async",
    "atime",
    "noatime",
    "auto",
    "noauto",
    "context=",
    "fscontext=",
    "defcontext=",
    "rootcontext=",
    "defaults",
    "dev",
    "nodev",
    "diratime",
    "nodiratime",
    "dirsync",
    "exec",
    "noexec",
    "group",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "_netdev",
    "nofail",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "suid",
    "nosuid",
    "silent",
    "loud",
    "owner",
    "remount",
    "ro",
    "rw",
    "sync",
    "user",
    "nouser",
    "users",
    "nosymfollow",
    "symfollow",
    "X-mount.mkdir",
    "x-systemd.automount",
    "comment=",
    "uhelper=",
    "helper=",
    "loop",
    "offset=",
    "sizelimit=",
    "nogroup",
    "noowner",
    "nousers",
    "user=",
]


@pytest.mark.parametrize("item", OF_MOUNT_8)
def test_what_mount_8_knows_is_taken_or_refused_with_its_reason(item: str) -> None:
    """Never as an option that does not exist."""
    try:
        chosen(item + ("system_u:object_r:x_t" if item.endswith("=") else ""))
    except StartupError as error:
        assert "no such option" not in error.cause
        assert error.thing == f"option -o {item.rstrip('=')}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("allow_othr", "allow_other"),
        ("memmory=1G", "memory"),
        ("endpoint_ulr=http://x", "endpoint_url"),
        ("no_exec", "noexec"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(written: str, meant: str) -> None:
    """In the advice, where the eye goes."""
    assert refused(written).advice == f"did you mean {meant}?"


def test_a_name_like_no_other_gets_a_pointer_to_the_help() -> None:
    """Better than a wild guess."""
    assert "--help" in refused("zzzzzz").advice


@pytest.mark.parametrize(
    "item",
    ["aws_secret_access_key=hunter2", "passwd_file=/hunter2", "session_token=hunter2", "secret=hunter2"],
)
def test_keys_are_refused_and_not_repeated(item: str) -> None:
    """Every user of the machine can read a command line; the message must not copy it into logs as well."""
    error = refused(item)
    assert "never taken from the command line" in error.cause
    assert "hunter2" not in str(error)


def test_a_missing_value_and_a_wrong_one_name_the_option() -> None:
    """And the user sees at once which of twenty it was."""
    assert refused("ttl").thing == "option -o ttl"
    assert refused("ttl=soon").thing == "option -o ttl"
    assert refused("attributes=lst").cause.endswith("did you mean list?")
    assert refused("read_only=perhaps").thing == "option -o read_only"


def test_a_comma_within_a_value_is_written_with_a_backslash() -> None:
    """As libfuse has it; without that a path with a comma could not be given."""
    assert list(split_items(r"ro,cache_dir=/a\,b,,noexec")) == ["ro", "cache_dir=/a,b", "noexec"]
    assert chosen(r"cache_dir=/a\,b").values == {"cache_dir": "/a,b"}
