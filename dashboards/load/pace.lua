-- wrk with pauses: a load that leaves the machine room for others.
function delay()
   return math.random(1, 8)
end
