from kepler_ebpf.api.measure import energyit as energyit
from kepler_ebpf.api.measure import measure as measure
from kepler_ebpf.api.measurement import EnergyPerCall as EnergyPerCall
from kepler_ebpf.api.measurement import Measurement as Measurement

__version__: str
