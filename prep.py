from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
a=AdminClient({"bootstrap.servers":"127.0.0.1:19092"})
for fu in a.create_topics([NewTopic("tx17757",2,1),NewTopic("tx17757-out",2,1)]).values(): fu.result()
p=Producer({"bootstrap.servers":"127.0.0.1:19092"})
if "transactions" in ("consume","commit","transactions","groups"):
  for i in range(50):
    for q in (0,1): p.produce("tx17757",key="k",value=f"{q}-{i}",headers=[("h",b"x")],partition=q,timestamp=1000+i)
  p.flush()
