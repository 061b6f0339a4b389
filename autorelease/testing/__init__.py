"""The contract of provisioners as suites of tests: for ours, and for those of other packages.

The only place that imports pytest, which whoever writes tests has, and which nothing needs at work. Subclass
`ProvisionerContract` in a test module and give it a fixture `system`; subclass `KindContract` and give it fixtures
`kind` and `options`. Each test is a rule of the protocol; what breaks it fails with the rule in words.
"""

from autorelease.testing.kinds import KindContract, make_section
from autorelease.testing.provisioners import ProvisionerContract
from autorelease.testing.system import System, make_allocation

__all__ = ["KindContract", "ProvisionerContract", "System", "make_allocation", "make_section"]
