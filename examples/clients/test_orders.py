# A test of code that uses confluent-kafka. With pytest the two methods at the top are a fixture.
#
#   npm run build:all && SERVE="node build/examples/serve.js" python3 examples/clients/test_orders.py

import os, shlex, subprocess, unittest
from confluent_kafka import Consumer, Producer


class OrdersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen(shlex.split(os.environ["SERVE"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        cls.bootstrap = cls.server.stdout.readline().decode().strip()

    @classmethod
    def tearDownClass(cls):
        cls.server.communicate()  # Closes its input: it ends.

    def test_orders_are_packed(self):
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce("orders", key="ann", value="tea")
        producer.flush()
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "packing", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders"])
        self.assertEqual(consumer.poll(30).value(), b"tea")
        consumer.close()


if __name__ == "__main__":
    unittest.main()
