"""Names that are none of a VM, and look as if they were."""

from collections.abc import Iterator
from urllib.parse import quote


def nearly(vm: str, other: str) -> Iterator[str]:
    """Words that somebody might take for these VMs."""
    yield from (f" {vm}", f"{vm} ", f"{vm}\n", f"\n{vm}", f"\t{vm}", f"{vm}\0", f"{vm}\0{other}", f"\ufeff{vm}")
    yield from (f"./{vm}", f"{vm}/", f"{vm}/.", f"x/../{vm}", f"{vm}/../{other}", f"/{vm}", ".", "..", "/", "../..")
    yield from (f"{vm},{other}", f"{vm} {other}", f"{vm};{other}", f"{vm}\n{other}", f"[{vm}]", f"{{{vm},{other}}}")
    yield from (f"{vm}*", f"{vm}?", f"{vm}%", "*", "%", ".*", f"{vm}|{other}", f"{vm[:-1]}?", f"{vm[:-1]}[!x]")
    yield from (f"{vm}?force=true", f"{vm}#x", f"{vm}&x=y", f"{vm};x=y", f"{vm}@x", f"{vm}:x", quote(f"{vm}/", safe=""))
    yield from ("".join(f"%{byte:02X}" for byte in vm.encode()), f"{vm}%00", f"{vm}%20", f"{vm}%0A")
    yield from (f"-{vm}", f"--{vm}", "--all", f"'{vm}'", f'"{vm}"', f"{vm}' OR '1'='1", f"$(echo {vm})", f"`echo {vm}`")
    yield from (vm[:-1], f"{vm}0", f"{vm}{vm}", vm + "x" * 5000)
