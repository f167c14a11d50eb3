"""Long texts that stand before or after a question."""

from __future__ import annotations

# About 250 words. It names nobody and no place, so that no edit can be about it.
UNRELATED = """\
How to keep a small garden alive through a dry summer

A small garden needs less water than most people think, but it needs it at the right time. Water \
early in the morning, before the sun is high, and water slowly. A slow stream sinks in; a quick \
one runs off the hard ground and takes the best of the soil with it. Once a week is enough for \
plants with deep roots, as long as each of them gets a full can. Pots are different. They dry \
out within a day, and a dark pot in the sun becomes so warm that fine roots die.

Cover the ground between the rows. Dry grass, old leaves or straw keep the soil cool and moist, \
and worms will pull them down in the course of the year. Leave a hand's width around each stem, \
because wet straw against a stem makes it rot. Do not dig in a dry spell: every turn of the \
spade brings damp soil to the surface, where it loses its water within hours.

Watch the plants and not the calendar. Leaves that hang at noon and stand up again in the \
evening are no reason to worry. Leaves that still hang the next morning are. Pick what is ripe \
every day, since a plant that has nothing left to ripen goes on flowering. Collect rain in a \
closed barrel, and clean it in autumn. When the first cool nights come, water less, and let the \
ground rest until it is time to sow again.\
"""

# It says nothing that any question asks, whatever the subject is.
ABOUT = """\
Here is a text about {0} that I found today.

Many people have heard of {0}. Some of them like to talk about {0} in the evening, others read \
about it on the train. Last week somebody wrote a long letter about {0} to a newspaper. The \
letter was friendly, and it did not answer any questions. In the end there is always more to say \
about {0}.\
"""
