"""Small files of each format, written for these tests."""

SHADOW = """graph [
  directed 0
  node [ id 0 label "a" host_bandwidth_down "1000 Kibit" host_bandwidth_up "10 Mbit" ]
  node [ id 1 label "b" host_bandwidth_down "2 Gibit" ]
  node [ id 2 label "c" ]
  edge [ source 0 target 0 latency "1 ms" packet_loss 0.25 ]
  edge [ source 0 target 1 latency "10 ms" packet_loss 0.1 ]
  edge [ source 1 target 2 latency "20000 us" packet_loss 0.2 ]
  edge [ source 0 target 2 latency "40 ms" packet_loss 0.0 ]
]
"""

CROSS_SILO = """graph [
  node [ id 0 label "Oslo" ]
  node [ id 1 label "Rome" ]
  node [ id 2 label "Cairo" ]
  edge [ source 0 target 1 distance 2000.0 capacity 300000000.0 ]
  edge [ source 1 target 2 distance 2100.0 ]
  edge [ source 0 target 2 distance 5000.0 capacity 100000000.0 ]
]
"""

ZOO = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d1" />
  <key attr.name="Latitude" attr.type="double" for="node" id="d2" />
  <key attr.name="Longitude" attr.type="double" for="node" id="d3" />
  <key attr.name="label" attr.type="string" for="node" id="d4" />
  <graph edgedefault="undirected">
    <node id="0"><data key="d2">0.0</data><data key="d3">0.0</data><data key="d4">Equator</data></node>
    <node id="1"><data key="d2">0.0</data><data key="d3">90.0</data><data key="d4">East</data></node>
    <node id="2"><data key="d2">90.0</data><data key="d3">0.0</data><data key="d4">Pole</data></node>
    <node id="3"><data key="d4">Nowhere</data></node>
    <edge source="0" target="1"><data key="d1">10000000000.0</data></edge>
    <edge source="0" target="1"><data key="d1">5000000000.0</data></edge>
    <edge source="1" target="2"><data key="d1">1000000000.0</data></edge>
    <edge source="2" target="3" />
  </graph>
</graphml>
"""

SNDLIB = """<?xml version="1.0"?>
<network xmlns="http://sndlib.zib.de/network" version="1.0">
 <networkStructure>
  <nodes coordinatesType="geographical">
   <node id="A"><coordinates><x>10.0</x><y>0.0</y></coordinates></node>
   <node id="B"><coordinates><x>11.0</x><y>0.0</y></coordinates></node>
   <node id="C"><coordinates><x>11.0</x><y>1.0</y></coordinates></node>
  </nodes>
  <links>
   <link id="L1"><source>A</source><target>B</target>
    <preInstalledModule><capacity>155.0</capacity><cost>0.0</cost></preInstalledModule></link>
   <link id="L2"><source>B</source><target>C</target>
    <additionalModules>
     <addModule><capacity>622.0</capacity><cost>9</cost></addModule>
     <addModule><capacity>40.0</capacity><cost>1</cost></addModule>
    </additionalModules></link>
  </links>
 </networkStructure>
 <demands><demand id="D1"><source>A</source><target>C</target><demandValue>12.5</demandValue></demand></demands>
</network>
"""

KOLLAPS = """<?xml version="1.0" encoding="UTF-8" ?>
<experiment boot="kollaps:2.0">
  <services>
    <service name="dashboard" image="d" supervisor="true" port="8088"/>
    <service name="c1" image="i"/>
    <service name="c2" image="i"/>
    <service name="server" image="i"/>
  </services>
  <bridges><bridge name="s1"/><bridge name="s2"/></bridges>
  <links>
    <link origin="c1" dest="s1" latency="10" upload="10Mbps" download="100Mbps" jitter="3" drop="0.1" network="n"/>
    <link origin="c2" dest="s1" latency="5" upload="50Mbps" download="50Mbps" network="n"/>
    <link origin="s1" dest="s2" latency="20" upload="60Mbps" download="60Mbps" jitter="4" drop="0.2" network="n"/>
    <link origin="s2" dest="server" latency="5" upload="100Mbps" download="100Mbps" network="n"/>
  </links>%s
</experiment>
"""

KOLLAPS_EVENTS = """
  <dynamic>
    <schedule name="c1" time="0.0" action="join"/>
    <schedule name="c2" time="0.0" action="join"/>
    <schedule name="server" time="0.0" action="join"/>
    <schedule origin="c1" dest="s1" time="5.0" latency="30" upload="5Mbps"/>
    <schedule origin="s1" dest="s2" time="9.0" action="leave"/>
    <schedule origin="s1" dest="s2" time="11.0" action="join"/>
    <schedule name="c2" time="20.0" action="leave"/>
    <schedule name="c2" time="25.0" action="join"/>
    <schedule name="c1" time="60.0" action="crash"/>
  </dynamic>"""

SIMGRID = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <zone id="AS0" routing="Full">
    <host id="Tremblay" speed="98Mf"/>
    <host id="Jupiter" speed="76Mf"/>
    <host id="Fafard" speed="76Mf"/>
    <link id="up" bandwidth="4MBps" latency="50us" sharing_policy="SPLITDUPLEX"/>
    <link id="wide" bandwidth="16Mbps" latency="20ms" sharing_policy="FATPIPE"/>
    <link id="slow" bandwidth="1MBps" latency="0.5ms"/>
    <route src="Tremblay" dst="Jupiter"><link_ctn id="up" direction="UP"/><link_ctn id="wide"/></route>
    <route src="Tremblay" dst="Fafard"><link_ctn id="up" direction="UP"/><link_ctn id="slow"/></route>
    <route src="Jupiter" dst="Fafard"><link_ctn id="wide"/><link_ctn id="slow"/></route>
  </zone>
</platform>
"""

SIMGRID_ZONES = """<?xml version='1.0'?>
<platform version="4.1">
  <zone id="world" routing="Full">
    <cluster id="c" prefix="n-" suffix=".x" radical="0-1;7" speed="1Gf" bw="125MBps" lat="50us"
      bb_bw="2.25GBps" bb_lat="500us"/>
    <zone id="far" routing="Floyd">
      <host id="p" speed="1Gf"/><router id="r"/><host id="q" speed="1Gf"/>
      <link id="pr" bandwidth="10MBps" latency="1ms"/><link id="rq" bandwidth="20MBps" latency="2ms"/>
      <route src="p" dst="r"><link_ctn id="pr"/></route>
      <route src="r" dst="q"><link_ctn id="rq"/></route>
    </zone>
    <link id="sea" bandwidth="1Gbps" latency="40ms"/>
    <zoneRoute src="c" dst="far" gw_src="n-c_router.x" gw_dst="r"><link_ctn id="sea"/></zoneRoute>
  </zone>
</platform>
"""

CORE = """<?xml version='1.0' encoding='UTF-8'?>
<scenario name="s">
  <networks><network id="4" name="sw" type="SWITCH"/></networks>
  <devices>
    <device id="1" name="pc1" type="PC"/>
    <device id="2" name="r1" type="router"/>
    <device id="3" name="pc2" type="host"/>
  </devices>
  <links>
    <link node1="1" node2="4">
      <options delay="5000" bandwidth="54000000" loss="1.0" dup="2" jitter="300" unidirectional="1"/></link>
    <link node1="4" node2="1">
      <options delay="7000" bandwidth="10000000" loss="0" dup="0" jitter="0" unidirectional="1"/></link>
    <link node_one="4" node_two="2"><options delay="1000" bandwidth="0" per="10" dup="0" jitter="400"/></link>
    <link node1="2" node2="3"/>
  </links>
</scenario>
"""

MINIEDIT = """{"application": {}, "version": "2", "controllers": [],
 "hosts": [{"number": "1", "opts": {"hostname": "h1"}}, {"number": "2", "opts": {"hostname": "h2"}}],
 "switches": [{"number": "1", "opts": {"hostname": "s1"}}],
 "links": [{"src": "h1", "dest": "s1", "opts": {"bw": 10, "delay": "5ms", "loss": 1, "max_queue_size": 100}},
           {"src": "s1", "dest": "h2", "opts": {"bw": 2.5, "delay": "500us"}}]}
"""
